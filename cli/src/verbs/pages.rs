//! Lists come in pages; commands show them whole.

use berth_client::view::ListView;
use berth_client::{ClientError, ListQuery};

/// The items of all pages that `page` gives.
pub async fn all<T>(
    page: impl AsyncFn(ListQuery) -> Result<ListView<T>, ClientError>,
) -> Result<Vec<T>, ClientError> {
    all_of(ListQuery::default(), page).await
}

/// The same, for a query that asks for less than everything.
pub async fn all_of<T>(
    mut query: ListQuery,
    page: impl AsyncFn(ListQuery) -> Result<ListView<T>, ClientError>,
) -> Result<Vec<T>, ClientError> {
    let mut items = Vec::new();
    loop {
        let list = page(query.clone()).await?;
        items.extend(list.items);
        match list.next {
            Some(next) => query.page = Some(next),
            None => return Ok(items),
        }
    }
}
