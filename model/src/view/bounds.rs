//! Bounds of what requests may say: the attributes of the views name them, the API's document
//! shows them, and the API checks them.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Names of objects: letters, digits, `_`, `.` and `-`, the first a letter or digit.
pub const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]*$";
pub const NAME_MAX: u32 = 255;
/// Names of container VMs are those that the Docker endpoint takes too: two characters or more.
pub const CONTAINER_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]+$";
/// Names of labels. No `=`, which ends a name in a filter.
pub const LABEL: &str = "^[A-Za-z0-9_][A-Za-z0-9_./:-]*$";
pub const LABEL_MAX: u32 = 255;
pub const LABEL_VALUE_MAX: u32 = 2048;
pub const LABELS_MAX: u32 = 128;
/// Terms on labels in one demand, values of one term.
pub const TERMS_MAX: u32 = 16;
pub const VALUES_MAX: u32 = 64;
/// Of a value in a term: 255 bytes, however wide its characters are.
pub const TERM_VALUE_MAX: u32 = 63;
/// A reference to an image, or its id.
pub const IMAGE: &str = "^(sha256:[0-9a-f]{1,64}|[a-z0-9]+([._-][a-z0-9]+)*(:[0-9]{1,5})?\
                         (/[a-z0-9]+([._-][a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?)$";
pub const IMAGE_MAX: u32 = 512;
/// A word, an argument: what no kernel would cut short.
pub const WORD: &str = "^[^\\u0000]*$";
pub const WORD_MAX: u32 = 8192;
/// A hundred of the longest fit into one command of the log.
pub const WORDS_MAX: u32 = 100;
/// `NAME=value`, or `NAME` to take an image's variable away.
pub const VARIABLE: &str = "^[^=\\u0000][^\\u0000]*$";
pub const PATH: &str = "^/[^\\u0000]*$";
pub const PATH_MAX: u32 = 4096;
pub const USER: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$";
pub const HOST_NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$";
pub const HOST_NAME_MAX: u32 = 63;
/// By name without `SIG` or with it, by number, or counted from the real-time ends.
pub const SIGNAL: &str = "^((SIG)?(HUP|INT|QUIT|ILL|TRAP|ABRT|IOT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|\
                          ALRM|TERM|STKFLT|CHLD|CLD|CONT|STOP|TSTP|TTIN|TTOU|URG|XCPU|XFSZ|VTALRM|\
                          PROF|WINCH|IO|POLL|PWR|SYS|RTMIN(\\+([0-9]|[12][0-9]|30))?|\
                          RTMAX(-([0-9]|[12][0-9]|30))?)|[1-9]|[1-5][0-9]|6[0-4])$";
/// `host`, `cluster`, `datastore`, or a level of fault domains as `domain:rack`.
pub const SCOPE: &str = "^(host|cluster|datastore|domain:[A-Za-z0-9][A-Za-z0-9_.-]*)$";

/// 1,024 CPUs.
pub const CPU_MAX: u64 = 1_024_000;
pub const CPU_SUM_MAX: u64 = 1 << 40;
/// The least memory of a container that Docker knows, too.
pub const MEMORY_MIN: u64 = 6 << 20;
/// 16 TiB.
pub const MEMORY_MAX: u64 = 1 << 44;
/// Less boots no guest.
pub const MACHINE_MEMORY_MIN: u64 = 64 << 20;
/// Less holds no file system with a journal.
pub const DISK_MIN: u64 = 16 << 20;
/// 1 PiB.
pub const DISK_MAX: u64 = 1 << 50;
/// Of all that an endpoint holds.
pub const SUM_MAX: u64 = 1 << 62;
pub const COUNT_MAX: u32 = 1_000_000;
pub const DISKS_MAX: u32 = 16;
pub const NETWORKS_MAX: u32 = 16;
pub const RESOURCES_MAX: u32 = 16;
pub const RESOURCE_MAX: u64 = 1_000_000_000;
/// Items of one batch or gang.
pub const BATCH_MAX: u32 = 4096;
/// Ten years.
pub const HOLD_MAX: u64 = 10 * 366 * 86_400;
pub const HOSTS_MAX: u32 = 64;
/// Hosts whose own reasons are told.
pub const EXPLAIN_MAX: u32 = 1000;
/// The most that is counted of one shape.
pub const CAPACITY_MAX: u64 = 1_000_000;

/// Labels as an object carries them.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": LABELS_MAX,
        "propertyNames": {"type": "string", "pattern": LABEL, "maxLength": LABEL_MAX},
        "additionalProperties": {"type": "string", "maxLength": LABEL_VALUE_MAX},
    })
}

/// Labels that something must carry.
pub fn label_terms(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": TERMS_MAX,
        "propertyNames": {"type": "string", "pattern": LABEL, "maxLength": LABEL_MAX},
        "additionalProperties": {"type": "string", "maxLength": LABEL_VALUE_MAX},
    })
}

/// Countable things by name.
pub fn resources(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": RESOURCES_MAX,
        "propertyNames": {"type": "string", "pattern": NAME, "maxLength": NAME_MAX},
        "additionalProperties": {
            "type": "integer", "format": "uint64", "minimum": 1, "maximum": RESOURCE_MAX,
        },
    })
}

/// Names of objects, `most` of them at most.
fn names(least: u32, most: u32) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": least,
        "maxItems": most,
        "items": {"type": "string", "pattern": NAME, "maxLength": NAME_MAX},
    })
}

pub fn some_hosts(_: &mut SchemaGenerator) -> Schema {
    names(1, HOSTS_MAX)
}

pub fn any_names(_: &mut SchemaGenerator) -> Schema {
    names(0, HOSTS_MAX)
}

pub fn networks(_: &mut SchemaGenerator) -> Schema {
    names(0, NETWORKS_MAX)
}

fn words_of(pattern: &str) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": WORDS_MAX,
        "items": {"type": "string", "pattern": pattern, "maxLength": WORD_MAX},
    })
}

pub fn words(_: &mut SchemaGenerator) -> Schema {
    words_of(WORD)
}

pub fn variables(_: &mut SchemaGenerator) -> Schema {
    words_of(VARIABLE)
}

/// Values of one term on a label.
pub fn values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": VALUES_MAX,
        "items": {"type": "string", "maxLength": TERM_VALUE_MAX},
    })
}
