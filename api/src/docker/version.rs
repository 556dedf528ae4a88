//! Versions of the Docker API: the prefix of a path, and which versions are served.

use hyper::StatusCode;

/// What this endpoint speaks; its document is in the tests.
pub const API_VERSION: &str = "1.50";
/// The oldest that it serves.
pub const API_VERSION_MIN: &str = "1.24";

const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 50 };
const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 24 };
/// From here on output that is multiplexed says so in its media type.
const MULTIPLEXED: ApiVersion = ApiVersion { major: 1, minor: 42 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u32,
    minor: u32,
}

/// A version that is not served; `plain` is told as text, as the engine does to old clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRefused {
    pub status: StatusCode,
    pub message: String,
    pub plain: bool,
}

impl ApiVersion {
    /// Takes `/v1.50` off `path`; without it the newest version is meant.
    pub fn split(path: &str) -> Result<(ApiVersion, &str), VersionRefused> {
        let Some((version, rest)) = path.strip_prefix("/v").and_then(|tail| {
            let (version, _) = tail.split_once('/')?;
            let parsed = Self::parse(version)?;
            Some((parsed, &tail[version.len()..]))
        }) else {
            return Ok((NEWEST, path));
        };
        let refused = |plain, message| {
            Err(VersionRefused { status: StatusCode::BAD_REQUEST, message, plain })
        };
        let ApiVersion { major, minor } = version;
        if version > NEWEST {
            return refused(
                false,
                format!(
                    "client version {major}.{minor} is too new. Maximum supported API version is \
                     {API_VERSION}"
                ),
            );
        }
        if version < OLDEST {
            return refused(
                true,
                format!(
                    "client version {major}.{minor} is too old. Minimum supported API version is \
                     {API_VERSION_MIN}, please upgrade your client to a newer version"
                ),
            );
        }
        Ok((version, rest))
    }

    fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.split_once('.')?;
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        Some(ApiVersion { major: number(major)?, minor: number(minor)? })
    }

    /// The media type of output; a terminal's has no frames.
    pub fn output_type(self, tty: bool) -> &'static str {
        if tty || self < MULTIPLEXED {
            "application/vnd.docker.raw-stream"
        } else {
            "application/vnd.docker.multiplexed-stream"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str) -> String {
        match ApiVersion::split(path) {
            Ok((version, rest)) => format!("{}.{} {rest}", version.major, version.minor),
            Err(refused) => refused.message,
        }
    }

    #[test]
    fn the_prefix_is_optional_and_bounded() {
        assert_eq!(check("/_ping"), "1.50 /_ping");
        assert_eq!(check("/v1.41/containers/json"), "1.41 /containers/json");
        assert_eq!(check("/version"), "1.50 /version");
        assert_eq!(check("/volumes/v1"), "1.50 /volumes/v1");
        assert_eq!(
            check("/v1.99/info"),
            "client version 1.99 is too new. Maximum supported API version is 1.50"
        );
        assert!(check("/v1.12/info").starts_with("client version 1.12 is too old."));
        assert!(check("/v99999999999.1/info").ends_with("/v99999999999.1/info"));
    }

    #[test]
    fn multiplexed_output_says_so_to_those_who_know_the_word() {
        let version = |minor| ApiVersion { major: 1, minor };
        assert!(version(50).output_type(false).contains("multiplexed"));
        assert!(version(50).output_type(true).contains("raw"));
        assert!(version(41).output_type(false).contains("raw"));
    }
}
