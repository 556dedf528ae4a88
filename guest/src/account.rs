//! Who the process runs as: Docker's user string against the image's own passwd and group files.
//!
//! Pure; the texts of failures are Docker's, which people and tools know.

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Larger account files than this are no account files.
const FILE_MAX: u64 = 16 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Reads the account files below the present root, missing ones as empty, and resolves.
pub fn look_up(user: &str, further_groups: &[String]) -> Result<Account, String> {
    resolve(user, further_groups, &read(PASSWD)?, &read(GROUP)?)
}

fn read(path: &str) -> Result<String, String> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // The image is not trusted: a pipe in its place must not hold us up.
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(format!("open {path}: {}", crate::trouble::plain(&error))),
    };
    let mut bytes = Vec::new();
    file.take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("read {path}: {}", crate::trouble::plain(&error)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Resolves `user`, `user:group` and the numeric forms; empty means root.
pub fn resolve(
    user: &str,
    further_groups: &[String],
    passwd: &str,
    group: &str,
) -> Result<Account, String> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let wanted_uid = if user_part.is_empty() { Some(0) } else { number(user_part)? };
    let found = entries(passwd).find_map(|fields| {
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        let (uid, gid) = (uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?);
        let matches = match wanted_uid {
            Some(wanted) => wanted == uid,
            None => name == user_part,
        };
        matches.then_some((name, uid, gid, home))
    });
    let (name, uid, mut gid, home) = match (found, wanted_uid) {
        (Some((name, uid, gid, home)), _) => (Some(name), uid, gid, home),
        (None, Some(uid)) => (None, uid, 0, "/"),
        (None, None) => {
            return Err(format!(
                "unable to find user {user_part}: no matching entries in passwd file"
            ));
        }
    };
    let mut groups = Vec::new();
    if group_part.is_empty() {
        groups.extend(memberships(group, name));
    } else {
        gid = named_group(group, group_part)?.ok_or_else(|| {
            format!("unable to find group {group_part}: no matching entries in group file")
        })?;
    }
    for further in further_groups {
        let found = named_group(group, further)?
            .ok_or_else(|| format!("Unable to find group {further}"))?;
        groups.push(found);
    }
    let mut unique = vec![gid];
    for group in groups {
        if !unique.contains(&group) {
            unique.push(group);
        }
    }
    let home = if home.is_empty() { "/" } else { home };
    Ok(Account { uid, gid, groups: unique, home: home.to_string() })
}

/// The groups that list this user.
fn memberships(group: &str, user: Option<&str>) -> Vec<u32> {
    let Some(user) = user else { return Vec::new() };
    entries(group)
        .filter_map(|fields| {
            let [_, _, gid, members, ..] = fields[..] else { return None };
            members.split(',').any(|member| member == user).then(|| gid.parse().ok())?
        })
        .collect()
}

fn named_group(group: &str, wanted: &str) -> Result<Option<u32>, String> {
    if let Some(number) = number(wanted)? {
        return Ok(Some(number));
    }
    Ok(entries(group).find_map(|fields| {
        let [name, _, gid, ..] = fields[..] else { return None };
        (name == wanted).then(|| gid.parse().ok())?
    }))
}

/// The number, if the text is one; an error if it is out of range.
fn number(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= i32::MAX as u32 => Ok(Some(number)),
        Ok(_) | Err(_) => Err("uids and gids must be in range 0-2147483647".to_string()),
    }
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          # a comment\n\
                          broken line\n\
                          www:x:33:33:www:/var/www:/bin/false\n\
                          app:x:1000:1001::/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\nwww:x:33:\napp:x:1001:\naudio:x:29:app\n";

    fn account(uid: u32, gid: u32, groups: &[u32], home: &str) -> Account {
        Account { uid, gid, groups: groups.to_vec(), home: home.to_string() }
    }

    fn check(user: &str, expected: Result<Account, &str>) {
        let found = resolve(user, &[], PASSWD, GROUP);
        assert_eq!(found, expected.map_err(str::to_string), "user {user:?}");
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        check("", Ok(account(0, 0, &[0, 10], "/root")));
        check("root", Ok(account(0, 0, &[0, 10], "/root")));
        check("app", Ok(account(1000, 1001, &[1001, 10, 29], "/home/app")));
        check("1000", Ok(account(1000, 1001, &[1001, 10, 29], "/home/app")));
        check("app:", Ok(account(1000, 1001, &[1001, 10, 29], "/home/app")));
    }

    #[test]
    fn a_given_group_replaces_memberships() {
        check("app:www", Ok(account(1000, 33, &[33], "/home/app")));
        check("app:77", Ok(account(1000, 77, &[77], "/home/app")));
        check(":audio", Ok(account(0, 29, &[29], "/root")));
    }

    #[test]
    fn a_number_without_an_entry_will_do() {
        check("4242", Ok(account(4242, 0, &[0], "/")));
        check("4242:4343", Ok(account(4242, 4343, &[4343], "/")));
    }

    #[test]
    fn an_unknown_name_fails_in_dockers_words() {
        check("nope", Err("unable to find user nope: no matching entries in passwd file"));
        check("app:nope", Err("unable to find group nope: no matching entries in group file"));
        check("99999999999", Err("uids and gids must be in range 0-2147483647"));
    }

    #[test]
    fn an_image_without_account_files_has_root() {
        assert_eq!(resolve("", &[], "", ""), Ok(account(0, 0, &[0], "/")));
    }

    #[test]
    fn further_groups_are_added_once() {
        let further = ["audio".to_string(), "10".to_string(), "500".to_string()];
        let found = resolve("app", &further, PASSWD, GROUP);
        assert_eq!(found, Ok(account(1000, 1001, &[1001, 10, 29, 500], "/home/app")));
    }
}
