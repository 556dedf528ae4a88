//! Reading a run's output: whole, from a moment on, by lines, behind a torn tail.

use super::*;
use berth_model::Timestamp;
use berth_model::stream::OutputFrom;
use berth_wire::record::{RecordEncoder, Stream};
use std::io::Write as _;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// Writes a log as QEMU does, in pieces that need not be whole records.
struct Writer {
    directory: PathBuf,
    epoch: Epoch,
    records: RecordEncoder,
}

impl Writer {
    fn new(directory: &Path, epoch: u64) -> Writer {
        let epoch = Epoch(epoch);
        Writer { directory: directory.to_owned(), epoch, records: RecordEncoder::default() }
    }

    fn record(&mut self, stream: Stream, ms: u64, text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.records.encode(stream, ms * 1_000_000, text.as_bytes(), &mut bytes);
        bytes
    }

    fn append(&self, bytes: &[u8]) {
        let path = log_path(&self.directory, self.epoch);
        let mut file = std::fs::File::options().append(true).create(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn say(&mut self, stream: Stream, ms: u64, text: &str) {
        let bytes = self.record(stream, ms, text);
        self.append(&bytes);
    }

    fn end(&self) {
        std::fs::write(crate::vm::exit_path(&self.directory, self.epoch), "{}").unwrap();
    }
}

async fn next(reader: &mut Reader) -> Option<String> {
    let piece = tokio::time::timeout(LIMIT, reader.next()).await.expect("a piece or the end");
    piece.map(|piece| String::from_utf8(piece.unwrap().data).unwrap())
}

async fn logs(directory: &Path, change: impl FnOnce(&mut LogsRequest)) -> String {
    let mut request =
        LogsRequest { epoch: Epoch(9), follow: false, since: None, until: None, tail: None };
    change(&mut request);
    let mut logs = Logs::open(directory, request).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = tokio::time::timeout(LIMIT, logs.next()).await.unwrap() {
        text.extend(piece.unwrap().data);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_run_is_read_while_it_is_written_and_ends_with_its_exit_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(directory.path(), 1);
    let mut reader = Reader::open(directory.path(), Epoch(1), OutputFrom::Start).await.unwrap();
    // It has not begun: the reader waits.
    let mut early = tokio::spawn(async move {
        let first = next(&mut reader).await;
        (first, reader)
    });
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut early).await.is_err());
    writer.say(Stream::Stdout, 1, "one");
    let (first, mut reader) = early.await.unwrap();
    assert_eq!(first.as_deref(), Some("one"));

    let torn = writer.record(Stream::Stderr, 2, "two");
    writer.append(&torn[..10]);
    let rest = {
        let writer = Writer::new(directory.path(), 1);
        let torn = torn.clone();
        tokio::spawn(async move { writer.append(&torn[10..]) })
    };
    assert_eq!(next(&mut reader).await.as_deref(), Some("two"));
    rest.await.unwrap();
    writer.say(Stream::Exit, 3, "status");
    assert_eq!(next(&mut reader).await, None);
}

#[tokio::test]
async fn a_run_whose_machine_vanished_ends_when_its_end_is_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(directory.path(), 1);
    writer.say(Stream::Stdout, 1, "one");
    let mut reader = Reader::open(directory.path(), Epoch(1), OutputFrom::Start).await.unwrap();
    assert_eq!(next(&mut reader).await.as_deref(), Some("one"));
    let waiting = tokio::spawn(async move { next(&mut reader).await });
    writer.append(b"\xb7");
    writer.end();
    assert_eq!(waiting.await.unwrap(), None);
}

#[tokio::test]
async fn from_now_means_behind_the_last_whole_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(directory.path(), 1);
    for number in 0..5000 {
        writer.say(Stream::Stdout, number, &format!("line {number} {}\n", "x".repeat(100)));
    }
    let torn = writer.record(Stream::Stdout, 1, "torn");
    writer.append(&torn[..20]);
    let mut reader = Reader::open(directory.path(), Epoch(1), OutputFrom::Now).await.unwrap();
    writer.append(&torn[20..]);
    assert_eq!(next(&mut reader).await.as_deref(), Some("torn"));
}

#[tokio::test]
async fn the_removal_of_the_container_ends_a_reader() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("c");
    std::fs::create_dir(&directory).unwrap();
    let mut writer = Writer::new(&directory, 1);
    writer.say(Stream::Stdout, 1, "one");
    let mut reader = Reader::open(&directory, Epoch(1), OutputFrom::Start).await.unwrap();
    assert_eq!(next(&mut reader).await.as_deref(), Some("one"));
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(next(&mut reader).await, None);
}

#[tokio::test]
async fn what_a_guest_damaged_ends_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(directory.path(), 1);
    writer.say(Stream::Stdout, 1, "one");
    writer.append(b"not a record at all, not at all");
    let mut reader = Reader::open(directory.path(), Epoch(1), OutputFrom::Start).await.unwrap();
    assert_eq!(next(&mut reader).await.as_deref(), Some("one"));
    // Until the run has ended it could be a write that a full disk tore.
    writer.end();
    assert!(matches!(reader.next().await, Some(Err(OutputError::Damaged { .. }))));
    assert!(reader.next().await.is_none());
}

#[tokio::test]
async fn a_write_that_a_full_disk_tore_and_that_was_repeated_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(directory.path(), 1);
    let (one, two) =
        (writer.record(Stream::Stdout, 1, "one"), writer.record(Stream::Stdout, 2, "two"));
    let both = [one, two].concat();
    writer.append(&both[..50]);
    let mut reader = Reader::open(directory.path(), Epoch(1), OutputFrom::Start).await.unwrap();
    let waiting = tokio::spawn(async move {
        let read = (next(&mut reader).await, next(&mut reader).await);
        (read, next(&mut reader).await)
    });
    writer.append(&both);
    writer.say(Stream::Exit, 3, "status");
    assert_eq!(waiting.await.unwrap(), ((Some("one".into()), Some("two".into())), None));
}

fn three_runs(directory: &Path) {
    for run in 1..=3 {
        let mut writer = Writer::new(directory, run);
        for line in 0..3 {
            writer.say(Stream::Stdout, run * 1000 + line, &format!("{run}.{line}\n"));
        }
        writer.say(Stream::Exit, run * 1000 + 9, "status");
    }
}

#[tokio::test]
async fn logs_give_all_runs_in_order() {
    let directory = tempfile::tempdir().unwrap();
    three_runs(directory.path());
    let all = "1.0\n1.1\n1.2\n2.0\n2.1\n2.2\n3.0\n3.1\n3.2\n";
    assert_eq!(logs(directory.path(), |_| {}).await, all);
    assert_eq!(logs(directory.path(), |wanted| wanted.epoch = Epoch(1)).await, &all[..12]);
}

#[tokio::test]
async fn a_tail_reaches_over_runs() {
    let directory = tempfile::tempdir().unwrap();
    three_runs(directory.path());
    let tail = |count| logs(directory.path(), move |wanted| wanted.tail = Some(count));
    assert_eq!(tail(0).await, "");
    assert_eq!(tail(2).await, "3.1\n3.2\n");
    assert_eq!(tail(4).await, "2.2\n3.0\n3.1\n3.2\n");
    assert_eq!(tail(100).await.lines().count(), 9);
}

#[tokio::test]
async fn a_tail_of_a_long_log_is_found_from_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(directory.path(), 1);
    let mut bytes = Vec::new();
    for number in 0..100_000 {
        bytes.extend(writer.record(Stream::Stdout, 1, &format!("line {number}\n")));
    }
    writer.append(&bytes);
    let text = logs(directory.path(), |wanted| wanted.tail = Some(2)).await;
    assert_eq!(text, "line 99998\nline 99999\n");
    let text = logs(directory.path(), |wanted| wanted.tail = Some(60_000)).await;
    assert_eq!(text.lines().count(), 60_000);
    assert!(text.starts_with("line 40000\n"));
}

#[tokio::test]
async fn since_and_until_cut_by_time() {
    let directory = tempfile::tempdir().unwrap();
    three_runs(directory.path());
    let text = logs(directory.path(), |wanted| {
        wanted.since = Some(Timestamp(1002));
        wanted.until = Some(Timestamp(3000));
    });
    assert_eq!(text.await, "1.2\n2.0\n2.1\n2.2\n3.0\n");
}

#[tokio::test]
async fn following_ends_with_the_last_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    three_runs(&path);
    std::fs::remove_file(log_path(&path, Epoch(3))).unwrap();
    let following = tokio::spawn({
        let path = path.clone();
        async move {
            logs(&path, |wanted| {
                wanted.epoch = Epoch(3);
                wanted.follow = true;
                wanted.tail = Some(1);
            })
            .await
        }
    });
    let mut writer = Writer::new(&path, 3);
    writer.say(Stream::Stdout, 1, "new\n");
    writer.end();
    assert!(following.await.unwrap().ends_with("new\n"));
}
