//! Terms on labels, as people write them.
//!
//! `app=web` has the value, `app=web,api` one of them, `app!=web` another or none, `app` is there,
//! `!app` is not.

use berth_client::view::TermView;

pub fn parse(text: &str) -> Result<TermView, String> {
    let wrong =
        || format!("`{text}` is not a term; write app=web, app=web,api, app!=web, app or !app");
    let values = |list: &str| -> Vec<String> { list.split(',').map(str::to_owned).collect() };
    let label = |name: &str| match name.is_empty() || name.contains(['!', '=', ',']) {
        true => Err(wrong()),
        false => Ok(name.to_owned()),
    };
    if let Some((name, list)) = text.split_once("!=") {
        return Ok(TermView::NotIn { label: label(name)?, values: values(list) });
    }
    if let Some((name, list)) = text.split_once('=') {
        return Ok(TermView::In { label: label(name)?, values: values(list) });
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(TermView::Absent { label: label(name)? }),
        None => Ok(TermView::Exists { label: label(text)? }),
    }
}

/// The same way back.
pub fn written(terms: &[TermView]) -> String {
    let one = |term: &TermView| match term {
        TermView::Exists { label } => label.clone(),
        TermView::Absent { label } => format!("!{label}"),
        TermView::In { label, values } => format!("{label}={}", values.join(",")),
        TermView::NotIn { label, values } => format!("{label}!={}", values.join(",")),
    };
    terms.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_reads_as_it_is_written() {
        for text in ["app=web", "app=web,api", "app!=web", "app", "!app"] {
            assert_eq!(written(&[parse(text).unwrap()]), text);
        }
        for text in ["", "!", "=web", "!=web", "a,b", "!a=b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
