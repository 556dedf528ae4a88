//! Images as `docker images` and `docker image inspect` show them, and how a load is told.

use super::filter::Filters;
use super::{Invalid, time};
use berth_model::{Bytes, Image, Timestamp};
use bollard_stubs::models::{
    DriverData, ImageConfig, ImageInspect, ImageInspectRootFs, ImageSummary,
};
use serde_json::{Value, json};

/// Names that `GET /images/json` can filter by.
pub const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

/// When the image was made, by its own config document.
pub fn created(image: &Image) -> Timestamp {
    document(image)["created"]
        .as_str()
        .and_then(|text| time::parse_ns("created", text).ok().flatten())
        .map_or(image.meta.created_at, |ns| Timestamp(ns / 1_000_000))
}

fn document(image: &Image) -> Value {
    serde_json::from_str(&image.document).unwrap_or(Value::Null)
}

/// The images to show, newest first. `named` finds the one that `before` or `since` names.
pub fn select<'a>(
    images: impl Iterator<Item = &'a Image>,
    filters: &Filters,
    named: impl Fn(&str) -> Option<&'a Image>,
) -> Result<Vec<&'a Image>, Invalid> {
    let bound = |name: &str| match filters.values(name).last() {
        None => Ok(None),
        Some(wanted) => match named(wanted) {
            Some(image) => Ok(Some(created(image))),
            None => Err(Invalid::NotFound(format!("No such image: {wanted}"))),
        },
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let until = match filters.values("until").last() {
        None => None,
        Some(text) => time::parse_ns("until", text)?.map(|ns| Timestamp(ns / 1_000_000)),
    };
    let dangling = filters.truth("dangling")?;
    let mut shown: Vec<&Image> = images
        .filter(|image| dangling.is_none_or(|wanted| image.references.is_empty() == wanted))
        .filter(|image| before.is_none_or(|bound| created(image) < bound))
        .filter(|image| since.is_none_or(|bound| created(image) > bound))
        .filter(|image| until.is_none_or(|bound| created(image) < bound))
        .filter(|image| filters.pass_labels(&image.config.labels))
        .filter(|image| {
            filters.pass("reference", |pattern| {
                image.references.iter().any(|reference| reference_fits(reference, pattern))
            })
        })
        .collect();
    shown.sort_by_key(|image| (std::cmp::Reverse(created(image)), image.id));
    Ok(shown)
}

/// `busybox`, `busybox:1`, `team/*`: `*` and `?` stand for anything but a slash.
fn reference_fits(reference: &str, pattern: &str) -> bool {
    let name = reference.rsplit_once(':').map_or(reference, |(name, _)| name);
    wild(reference.as_bytes(), pattern.as_bytes()) || wild(name.as_bytes(), pattern.as_bytes())
}

/// Matches without backtracking further than the last star, so that no pattern is slow.
fn wild(text: &[u8], pattern: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(next) {
            Some(b'*') => {
                star = Some((next, at));
                next += 1;
            }
            Some(b'?') if text[at] != b'/' => (at, next) = (at + 1, next + 1),
            Some(byte) if *byte == text[at] => (at, next) = (at + 1, next + 1),
            Some(_) | None => match star {
                Some((place, from)) if text[from] != b'/' => {
                    star = Some((place, from + 1));
                    (at, next) = (from + 1, place + 1);
                }
                Some(_) | None => return false,
            },
        }
    }
    pattern[next..].iter().all(|byte| *byte == b'*')
}

/// One image of the answer of `GET /images/json`; `containers` is how many use it.
pub fn summary(image: &Image, containers: usize) -> Value {
    json!(ImageSummary {
        id: format!("sha256:{}", image.id),
        repo_tags: image.references.iter().cloned().collect(),
        created: time::seconds(created(image)),
        size: size(image.size),
        // Docker's word for "not counted".
        shared_size: -1,
        labels: image.config.labels.clone().into_iter().collect(),
        containers: i64::try_from(containers).unwrap_or(i64::MAX),
        ..ImageSummary::default()
    })
}

/// The answer of `GET /images/{name}/json`.
pub fn inspect(image: &Image) -> Value {
    let document = document(image);
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let layers = document["rootfs"]["diff_ids"].as_array().map(|layers| {
        layers.iter().filter_map(|layer| layer.as_str().map(str::to_owned)).collect()
    });
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let config = &image.config;
    let response = ImageInspect {
        id: Some(format!("sha256:{}", image.id)),
        repo_tags: Some(image.references.iter().cloned().collect()),
        repo_digests: Some(Vec::new()),
        comment: Some(text("comment")),
        author: Some(text("author")),
        config: Some(ImageConfig {
            user: Some(config.user.clone()),
            exposed_ports: some(&config.exposed_ports),
            env: Some(config.environment.clone()),
            cmd: some(&config.command),
            volumes: some(&config.volumes),
            working_dir: Some(config.working_directory.clone()),
            entrypoint: some(&config.entrypoint),
            labels: Some(config.labels.clone().into_iter().collect()),
            stop_signal: config.stop_signal.clone(),
            ..ImageConfig::default()
        }),
        architecture: Some(config.architecture.clone()),
        os: Some(config.os.clone()),
        size: Some(size(image.size)),
        graph_driver: Some(DriverData {
            name: super::container::DRIVER.to_owned(),
            ..DriverData::default()
        }),
        root_fs: Some(ImageInspectRootFs { typ: "layers".to_owned(), layers }),
        ..ImageInspect::default()
    };
    let mut value = json!(response);
    value["Created"] = json!(time::show(created(image)));
    value["Metadata"] = json!({"LastTagTime": time::show(image.meta.created_at)});
    value["Config"]["Healthcheck"] = document["config"]["Healthcheck"].clone();
    value
}

fn size(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

/// How far a layer is, as one line of a load's progress.
pub fn progress(layer: &str, current: Bytes, total: Bytes) -> Value {
    let short: String = layer.trim_start_matches("sha256:").chars().take(12).collect();
    json!({
        "status": "Loading layer",
        "id": short,
        "progressDetail": {"current": current.0, "total": total.0},
        "progress": bar(current, total),
    })
}

/// `[==>   ]  1.2 MiB/4 MiB`
fn bar(current: Bytes, total: Bytes) -> String {
    const WIDTH: u64 = 50;
    let done = if total.0 == 0 {
        WIDTH
    } else {
        u64::try_from(u128::from(current.0.min(total.0)) * u128::from(WIDTH) / u128::from(total.0))
            .unwrap_or(WIDTH)
    };
    let filled = usize::try_from(done).unwrap_or(0);
    let empty = usize::try_from(WIDTH - done).unwrap_or(0);
    format!("[{}>{}]  {current}/{total}", "=".repeat(filled), " ".repeat(empty))
}

/// The last line of a load, by reference or id.
pub fn loaded(id: &str, references: &[String]) -> Vec<Value> {
    if references.is_empty() {
        return vec![json!({"stream": format!("Loaded image ID: sha256:{id}\n")})];
    }
    let line = |reference: &String| json!({"stream": format!("Loaded image: {reference}\n")});
    references.iter().map(line).collect()
}

/// Trouble after the answer has begun.
pub fn trouble(message: &str) -> Value {
    json!({"errorDetail": {"message": message}, "error": message})
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::image;
    use super::*;
    use berth_model::ImageId;
    use berth_model::image::ImageConfig as Config;

    #[test]
    fn patterns_of_references_stop_at_slashes() {
        assert!(reference_fits("busybox:latest", "busybox"));
        assert!(reference_fits("busybox:latest", "busy*"));
        assert!(reference_fits("busybox:1.2", "*:1.?"));
        assert!(reference_fits("team/app:2", "team/*"));
        assert!(!reference_fits("team/app:2", "*app:2"));
        assert!(!reference_fits("busybox:latest", "box"));
        assert!(!reference_fits("busybox:latest", ""));
    }

    #[test]
    fn images_are_filtered_and_newest_first() {
        let mut old = image(Config::default());
        old.document = r#"{"created":"2020-01-01T00:00:00Z"}"#.to_owned();
        old.id = ImageId::from_bytes([2; 32]);
        old.references.clear();
        let new = image(Config::default());
        let images = [old, new];
        let select = |filters: &str| {
            let filters = Filters::parse(filters, FILTERS)?;
            let named = |name: &str| images.iter().find(|i| i.references.contains(name));
            let found = super::select(images.iter(), &filters, named)?;
            Ok::<_, Invalid>(found.iter().map(|i| i.id.as_bytes()[0]).collect::<Vec<_>>())
        };
        assert_eq!(select("").unwrap(), [1, 2]);
        assert_eq!(select(r#"{"dangling":["true"]}"#).unwrap(), [2]);
        assert_eq!(select(r#"{"reference":["busy*"]}"#).unwrap(), [1]);
        assert_eq!(select(r#"{"before":["busybox:latest"]}"#).unwrap(), [2]);
        assert!(select(r#"{"since":["x"]}"#).is_err());
        assert!(select(r#"{"until":["1577836801"]}"#).unwrap() == [2]);
    }

    #[test]
    fn progress_reads_as_a_bar() {
        let line = progress("sha256:0123456789abcdef", Bytes::mib(1), Bytes::mib(4));
        assert_eq!(line["id"], "0123456789ab");
        let bar = line["progress"].as_str().unwrap();
        assert!(bar.starts_with("[============>  ") && bar.ends_with("1 MiB/4 MiB"), "{bar}");
        assert!(super::bar(Bytes(0), Bytes(0)).starts_with("[====="));
    }

    #[test]
    fn an_image_is_shown_with_its_config() {
        let config = Config { command: vec!["sh".into()], os: "linux".into(), ..Config::default() };
        let shown = inspect(&image(config));
        assert_eq!(shown["RepoTags"], json!(["busybox:latest"]));
        assert_eq!(shown["Config"]["Cmd"], json!(["sh"]));
        assert_eq!(shown["Created"], "2024-01-02T03:04:05.000000000Z");
    }
}
