//! References to images: `busybox`, `team/app:2`, `localhost:5000/app`, `sha256:…`, an id's start.

use super::Invalid;

/// What a client may mean by an image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Familiar form with a tag, as images carry it: `busybox:latest`.
    Tag(String),
    /// `name@sha256:…`: images carry no digests of manifests yet.
    Digest(String),
    /// Hex digits after `sha256:`.
    Id(String),
}

/// Reads a reference; the default registry, library and tag are left out or filled in as the
/// engine does.
pub fn parse(text: &str) -> Result<Reference, Invalid> {
    let wrong = || Invalid::bad(format!("invalid reference format: {text:?}"));
    if let Some(digits) = text.strip_prefix("sha256:") {
        let hex = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(is_hex);
        return if hex { Ok(Reference::Id(digits.to_owned())) } else { Err(wrong()) };
    }
    if text.contains('@') {
        return Ok(Reference::Digest(text.to_owned()));
    }
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        Some(_) | None => (text, "latest"),
    };
    let name = familiar(name);
    let part_ok = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    let tag_ok = !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let mut parts = name.split('/');
    let first = parts.next().unwrap_or_default();
    let first_ok =
        if name.contains('/') { is_registry(first) || part_ok(first) } else { part_ok(first) };
    if first_ok && parts.all(part_ok) && tag_ok {
        Ok(Reference::Tag(format!("{name}:{tag}")))
    } else {
        Err(wrong())
    }
}

/// Whether the text may be the start of an image's id.
pub fn is_id_prefix(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_hex)
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// `docker.io/library/busybox` is shown as `busybox`.
fn familiar(name: &str) -> &str {
    let bare = name
        .strip_prefix("docker.io/")
        .or_else(|| name.strip_prefix("index.docker.io/"))
        .unwrap_or(name);
    bare.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(bare)
}

fn is_registry(part: &str) -> bool {
    (part == "localhost" || part.contains('.') || part.contains(':'))
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> String {
        match parse(text) {
            Ok(Reference::Tag(tag)) => tag,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_reference_is_read_as_the_engine_shows_it() {
        assert_eq!(tag("busybox"), "busybox:latest");
        assert_eq!(tag("docker.io/library/busybox:1"), "busybox:1");
        assert_eq!(tag("library/busybox"), "busybox:latest");
        assert_eq!(tag("team/app:2"), "team/app:2");
        assert_eq!(tag("localhost:5000/team/app"), "localhost:5000/team/app:latest");
        assert_eq!(tag("ghcr.io/a/b:c"), "ghcr.io/a/b:c");
        assert_eq!(parse("sha256:ab"), Ok(Reference::Id("ab".to_owned())));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in ["", ":", "a:", "A", "a b", "a//b", "a/B", "sha256:", "sha256:xyz", "a:-b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
