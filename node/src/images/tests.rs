//! Hand-made archives, and what becomes of them on a datastore.

use super::tar_out::{TarWriter, entry};
use super::tar_stream::{TarEntry, TarKind};
use super::*;
use crate::datastore::DatastoreOptions;
use crate::options::Limits;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use tempfile::TempDir;

const DIRECTORY: TarKind = TarKind::Directory;
const FILE: TarKind = TarKind::File;

fn sha(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn tar_of(entries: &[(TarEntry, &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, *data, data.len() as u64).unwrap();
    }
    writer.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn file<'d>(path: &str, data: &'d [u8]) -> (TarEntry, &'d [u8]) {
    (entry(path, FILE), data)
}

fn other(path: &str, kind: TarKind) -> (TarEntry, &'static [u8]) {
    (entry(path, kind), &[])
}

fn link(path: &str, target: &str) -> (TarEntry, &'static [u8]) {
    other(path, TarKind::Link(target.as_bytes().to_vec()))
}

fn symlink(path: &str, target: &str) -> (TarEntry, &'static [u8]) {
    other(path, TarKind::Symlink(target.as_bytes().to_vec()))
}

fn config_of(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", sha(layer))).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    serde_json::to_vec(&config).unwrap()
}

type Members = BTreeMap<String, Vec<u8>>;

/// What `docker save` writes, as members, so that a test can spoil one.
fn docker_members(layers: &[Vec<u8>], tag: &str) -> Members {
    let config = config_of(layers);
    let config_name = format!("{}.json", sha(&config));
    let names: Vec<_> = layers.iter().map(|layer| format!("{}.tar", sha(layer))).collect();
    let manifest = serde_json::json!([
        { "Config": config_name, "RepoTags": [tag], "Layers": names },
    ]);
    let mut members: BTreeMap<_, _> = names.into_iter().zip(layers.iter().cloned()).collect();
    members.insert(config_name, config);
    members.insert("manifest.json".into(), serde_json::to_vec(&manifest).unwrap());
    members
}

fn archive_of(members: &Members) -> Vec<u8> {
    let entries: Vec<_> = members.iter().map(|(name, data)| file(name, data)).collect();
    tar_of(&entries)
}

fn docker(layers: &[Vec<u8>]) -> Vec<u8> {
    archive_of(&docker_members(layers, "test:1"))
}

/// A small image named `sample:1`, for tests of those who carry archives.
pub(crate) fn sample_archive() -> Vec<u8> {
    let layer = tar_of(&[file("bin/sh", &[1; 200_000]), symlink("sh", "bin/sh")]);
    archive_of(&docker_members(&[layer], "sample:1"))
}

fn oci(layers: &[Vec<u8>], compress: bool) -> Vec<u8> {
    let config = config_of(layers);
    let blobs: Vec<Vec<u8>> =
        layers.iter().map(|layer| if compress { gzip(layer) } else { layer.clone() }).collect();
    let describe = |blob: &[u8]| {
        let digest = format!("sha256:{}", sha(blob));
        serde_json::json!({ "digest": digest, "size": blob.len() })
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe(&config),
        "layers": blobs.iter().map(|blob| describe(blob)).collect::<Vec<_>>(),
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut ours = describe(&manifest);
    ours["annotations"] =
        serde_json::json!({ "io.containerd.image.name": "docker.io/library/test:oci" });
    ours["platform"] = serde_json::json!({ "architecture": "amd64", "os": "linux" });
    let foreign = serde_json::json!({
        "digest": format!("sha256:{}", "0".repeat(64)), "size": 3,
        "platform": { "architecture": "arm64", "os": "linux" },
    });
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [foreign, ours] });
    let mut members = BTreeMap::from([
        ("oci-layout".to_owned(), b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec()),
        ("index.json".to_owned(), serde_json::to_vec(&index).unwrap()),
    ]);
    for blob in blobs.iter().chain([&config, &manifest]) {
        members.insert(format!("blobs/sha256/{}", sha(blob)), blob.clone());
    }
    archive_of(&members)
}

struct Store {
    directory: TempDir,
    datastore: Arc<Datastore>,
    loader: Loader,
}

fn store() -> Store {
    store_with(Limits { archive_mib: 64, ..Limits::default() }, "sqfstar")
}

fn store_with(limits: Limits, sqfstar: &str) -> Store {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let options = DatastoreOptions { name: "local".into(), path, ..DatastoreOptions::default() };
    let datastore = Arc::new(Datastore::register(&options).unwrap());
    let metrics = NodeMetrics::register(&berth_metrics::Registry::new()).unwrap();
    let host = HostId::from_bytes([1; 16]);
    let loader = Loader::new(host, sqfstar.into(), &limits, metrics);
    Store { directory, datastore, loader }
}

impl Store {
    async fn load(&self, archive: &[u8]) -> Result<LoadedImage, String> {
        let (sender, mut progress) = mpsc::channel(1000);
        let outcome = self.load_with(archive, sender).await;
        while let Some(step) = progress.recv().await {
            assert!(step.current <= step.total, "{step:?}");
        }
        match outcome.failure {
            Some(failure) => Err(crate::causes::with_causes(&failure)),
            None => Ok(outcome.loaded.into_iter().next().unwrap()),
        }
    }

    async fn load_with(&self, archive: &[u8], progress: mpsc::Sender<Progress>) -> Outcome {
        let mut incoming = self.loader.begin(self.datastore.clone()).await.unwrap();
        for piece in archive.chunks(100_000) {
            incoming = match incoming.push(piece.to_vec()).await {
                Ok(incoming) => incoming,
                Err(failure) => return Outcome { loaded: vec![], failure: Some(failure) },
            };
        }
        incoming.finish(progress).await
    }

    fn base(&self, image: ImageId) -> PathBuf {
        self.datastore.base(image)
    }

    /// Lines of `unsquashfs -lln`, without times: `mode owner size name`.
    fn listing(&self, image: ImageId) -> Vec<String> {
        let output = Command::new("unsquashfs").arg("-lln").arg(self.base(image)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let date = words.iter().position(|word| word.starts_with("20") && word.len() == 10)?;
            let name = words[date + 2..].join(" ").replacen("squashfs-root", "", 1);
            Some(format!("{} {}", words[..date].join(" "), name))
        };
        text.lines().filter_map(line).collect()
    }

    fn names(&self, image: ImageId) -> Vec<String> {
        let name = |line: &String| line.split(' ').find(|w| w.starts_with('/')).map(str::to_owned);
        self.listing(image).iter().filter_map(name).collect()
    }

    fn cat(&self, image: ImageId, name: &str) -> Vec<u8> {
        let base = self.base(image);
        let output = Command::new("unsquashfs").arg("-cat").arg(base).arg(name).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    /// Everything on the datastore but its own directories and marker.
    fn left(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for directory in ["images", "spool", "trash"] {
            let entries = std::fs::read_dir(self.directory.path().join(directory)).unwrap();
            left.extend(entries.map(|entry| entry.unwrap().path()));
        }
        left
    }
}

#[actix_rt::test]
async fn layers_are_flattened_with_everything_that_a_tar_can_say() {
    let mut suid = file("bin/su", b"elf");
    suid.0.mode = 0o4755;
    (suid.0.uid, suid.0.gid) = (1000, 70_000);
    suid.0.xattrs = vec![
        (b"security.capability".to_vec(), b"\x01\0\0\x02\0\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        (b"user.note".to_vec(), b"kept".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
    ];
    let mut sticky = other("tmp", DIRECTORY);
    sticky.0.mode = 0o1777;
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(200));
    let lower = tar_of(&[
        other("./", DIRECTORY),
        other("bin/", DIRECTORY),
        suid,
        file("bin/one", b"first"),
        link("bin/two", "bin/one"),
        symlink("bin/sh", "/bin/one"),
        sticky,
        file("tmp/gone", b"x"),
        other("etc", DIRECTORY),
        file("etc/old", b"x"),
        file("etc/kept", b"hidden by opaque"),
        other("dev/null", TarKind::Character { major: 1, minor: 3 }),
        other("run/pipe", TarKind::Fifo),
        file(&long, b"deep"),
    ]);
    let upper = tar_of(&[
        file("bin/one", b"second"),
        file("tmp/.wh.gone", b""),
        file("etc/.wh..wh..opq", b""),
        file("etc/new", b"new"),
        link("etc/alias", "bin/two"),
    ]);
    let store = store();
    let image = store.load(&docker(&[lower.clone(), upper.clone()])).await.unwrap();
    assert_eq!(image.references, ["test:1"]);
    assert_eq!(image.config.command, ["sh"]);
    assert_eq!(image.size, Bytes((lower.len() + upper.len()) as u64));

    let listing = store.listing(image.id);
    let has = |line: &str| assert!(listing.iter().any(|l| l == line), "{line}: {listing:#?}");
    has("-rwsr-xr-x 1000/70000 3 /bin/su");
    has("drwxrwxrwt 0/0 3 /tmp");
    has("lrwxrwxrwx 0/0 8 /bin/sh -> /bin/one");
    has("crw-r--r-- 0/0 1, 3 /dev/null");
    has("prw-r--r-- 0/0 0 /run/pipe");
    let names = store.names(image.id);
    assert!(!names.iter().any(|name| name.contains("gone") || name.contains("etc/old")));
    assert!(names.contains(&format!("/{long}")));
    assert_eq!(store.cat(image.id, "bin/one"), b"second");
    // Both names were given to the first `bin/one` and still are.
    assert_eq!(store.cat(image.id, "bin/two"), b"first");
    assert_eq!(store.cat(image.id, "etc/alias"), b"first");
    assert_eq!(store.cat(image.id, &long), b"deep");

    let unpacked = store.directory.path().join("unpacked");
    let unpack = Command::new("unsquashfs")
        .args(["-no-progress", "-d"])
        .args([&unpacked, &store.base(image.id)])
        .output()
        .unwrap();
    assert!(unpack.status.success(), "{unpack:?}");
    let mut value = [0_u8; 64];
    let su = unpacked.join("bin/su");
    let length = rustix::fs::getxattr(&su, "user.note", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"kept");
    let length = rustix::fs::getxattr(&su, "security.capability", &mut value[..]).unwrap();
    assert_eq!(length, 20);
    assert!(rustix::fs::getxattr(&su, "trusted.overlay.opaque", &mut value[..]).is_err());
    use std::os::unix::fs::MetadataExt as _;
    let inode = |name: &str| std::fs::metadata(unpacked.join(name)).unwrap().ino();
    assert_eq!(inode("bin/two"), inode("etc/alias"));
}

#[actix_rt::test]
async fn an_oci_layout_with_gzip_layers_gives_the_same_disk_as_a_docker_archive() {
    let layers = [
        tar_of(&[other("etc", DIRECTORY), file("etc/a", b"1")]),
        tar_of(&[file("etc/b", &[7; 300_000])]),
    ];
    let (one, two) = (store(), store());
    let plain = one.load(&docker(&layers)).await.unwrap();
    let packed = two.load(&oci(&layers, true)).await.unwrap();
    assert_eq!(plain.id, packed.id);
    assert_eq!(packed.references, ["test:oci"]);
    // All but the line of the root: sqfstar 4.5 gives it the time of the day whatever it is told.
    let list = |store: &Store| {
        let base = store.base(plain.id);
        let output = Command::new("unsquashfs").arg("-lln").arg(&base).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains("/etc")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(list(&one).len(), 3);
    assert_eq!(list(&one), list(&two));
    let read = |store: &Store, name: &str| {
        let base = store.base(plain.id);
        Command::new("unsquashfs").arg("-cat").arg(&base).arg(name).output().unwrap().stdout
    };
    assert_eq!(read(&two, "etc/a"), b"1");
    assert_eq!(read(&one, "etc/b"), [7; 300_000]);
    assert_eq!(read(&one, "etc/b"), read(&two, "etc/b"));
    let three = store();
    assert_eq!(three.load(&gzip(&oci(&layers, false))).await.unwrap().id, plain.id);
}

#[actix_rt::test]
async fn members_that_are_links_to_members_are_found() {
    let layer = tar_of(&[file("a", b"1")]);
    let mut members = docker_members(std::slice::from_ref(&layer), "test:1");
    let name = format!("{}.tar", sha(&layer));
    let content = members.remove(&name).unwrap();
    let mut entries = vec![file("real/layer.tar", &content), symlink(&name, "./real/layer.tar")];
    entries.extend(members.iter().map(|(name, data)| file(name, data)));
    store().load(&tar_of(&entries)).await.unwrap();
}

#[actix_rt::test]
async fn the_same_image_again_does_the_work_once() {
    let archive = docker(&[tar_of(&[file("a", b"1")])]);
    let store = store();
    let first = store.load(&archive).await.unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata(store.base(first.id)).unwrap().ino();
    let again = store.load(&archive).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(std::fs::metadata(store.base(first.id)).unwrap().ino(), inode);
}

#[actix_rt::test]
async fn loads_of_one_image_at_once_all_succeed_and_leave_one() {
    let archive = docker(&[tar_of(&[file("a", &[1; 2_000_000])])]);
    let store = store_with(Limits { image_loads: 4, ..Limits::default() }, "sqfstar");
    let loads = (0..4).map(|_| store.load(&archive));
    let images = futures_util::future::join_all(loads).await;
    assert!(images.iter().all(|image| image.is_ok()), "{images:?}");
    assert_eq!(store.left().len(), 1);
}

#[actix_rt::test]
async fn what_is_broken_is_named_and_leaves_nothing_behind() {
    let layer = tar_of(&[file("a", b"1")]);
    let whole = docker_members(std::slice::from_ref(&layer), "test:1");
    let (layer_name, config_name) = (format!("{}.tar", sha(&layer)), {
        let config = config_of(std::slice::from_ref(&layer));
        format!("{}.json", sha(&config))
    });
    let spoil = |change: &dyn Fn(&mut Members)| {
        let mut members = whole.clone();
        change(&mut members);
        archive_of(&members)
    };
    let layered = |entries: &[(TarEntry, &[u8])]| docker(&[tar_of(entries)]);
    let mut cut = docker(std::slice::from_ref(&layer));
    cut.truncate(700);
    let mut bent = gzip(&docker(std::slice::from_ref(&layer)));
    let middle = bent.len() / 2;
    bent[middle] ^= 0xff;
    let mut short = gzip(&docker(std::slice::from_ref(&layer)));
    short.truncate(short.len() - 20);
    let two = tar_of(&[file("b", b"2")]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no image archive", b"not a tar at all, only words".repeat(40)),
        ("cut off", cut),
        ("gzip data is wrong", bent),
        ("ends early", short),
        ("neither manifest.json nor index.json", tar_of(&[file("a", b"1")])),
        ("missing", spoil(&|m| drop(m.remove(&layer_name)))),
        ("missing", spoil(&|m| drop(m.remove(&config_name)))),
        ("does not have the digest", spoil(&|m| drop(m.insert(layer_name.clone(), two.clone())))),
        (
            "does not have the digest",
            spoil(&|m| {
                let config = String::from_utf8(m[&config_name].clone()).unwrap();
                m.insert(config_name.clone(), config.replace("sh", "id").into_bytes());
            }),
        ),
        ("cannot be understood", spoil(&|m| drop(m.insert("manifest.json".into(), b"{".to_vec())))),
        ("is absolute", layered(&[file("/etc/passwd", b"x")])),
        ("climbs out", layered(&[file("a/../../etc/passwd", b"x")])),
        ("climbs out", layered(&[link("a", "../../etc/passwd")])),
        ("not there", layered(&[link("a", "b")])),
        ("zstd", b"\x28\xb5\x2f\xfd rest".to_vec()),
    ];
    let store = store();
    for (expected, archive) in cases {
        let failure = store.load(&archive).await.unwrap_err();
        assert!(failure.contains(expected), "expected `{expected}`: {failure}");
        assert!(store.left().is_empty(), "{:?} after `{failure}`", store.left());
    }
}

#[actix_rt::test]
async fn an_archive_over_the_limit_is_refused_also_when_it_unpacks_to_more() {
    let archive = docker(&[tar_of(&[file("zeros", &vec![0; 3 << 20])])]);
    let store = store_with(Limits { archive_mib: 1, ..Limits::default() }, "sqfstar");
    let packed = gzip(&archive);
    assert!(packed.len() < 1 << 20);
    for archive in [archive, packed] {
        let failure = store.load(&archive).await.unwrap_err();
        assert!(failure.contains("larger than the node's limit"), "{failure}");
    }
    let layer = tar_of(&[file("zeros", &vec![0; 3 << 20])]);
    let failure = store.load(&oci(&[layer], true)).await.unwrap_err();
    assert!(failure.contains("limit"), "{failure}");
    assert!(store.left().is_empty());
}

#[actix_rt::test]
async fn without_its_tools_the_node_says_what_to_install_and_keeps_nothing() {
    let archive = docker(&[tar_of(&[file("a", b"1")])]);
    let missing = store_with(Limits::default(), "no-such-program");
    assert!(missing.load(&archive).await.unwrap_err().contains("squashfs-tools"));
    let failing = store_with(Limits::default(), "false");
    assert!(failing.load(&archive).await.unwrap_err().contains("sqfstar ended"));
    assert!(missing.left().is_empty() && failing.left().is_empty());
}

#[actix_rt::test]
async fn a_datastore_that_fills_up_is_named_and_keeps_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let tools = tempfile::tempdir().unwrap();
    let full = tools.path().join("sqfstar");
    // What the real one says, and it stops reading as the real one does.
    let script = "#!/bin/sh\necho 'Write failed because No space left on device' >&2\nexit 1\n";
    std::fs::write(&full, script).unwrap();
    std::fs::set_permissions(&full, std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = store_with(Limits::default(), full.to_str().unwrap());
    let archive = docker(&[tar_of(&[file("a", &[9; 3_000_000])])]);
    let failure = store.load(&archive).await.unwrap_err();
    assert!(failure.contains("no space left on datastore `local`"), "{failure}");
    assert!(store.left().is_empty());
}

#[actix_rt::test]
async fn a_client_that_leaves_stops_the_work() {
    let archive = docker(&[tar_of(&[file("a", &vec![5; 8 << 20])])]);
    let store = store();
    let (sender, mut progress) = mpsc::channel(1);
    {
        let load = store.load_with(&archive, sender);
        futures_util::pin_mut!(load);
        let started = async { progress.recv().await.unwrap() };
        futures_util::pin_mut!(started);
        futures_util::future::select(load, started).await;
    }
    // The channel closes when the work has let go of everything.
    while progress.recv().await.is_some() {}
    let finished =
        store.left().iter().all(|path| path.starts_with(store.directory.path().join("images")));
    assert!(finished, "{:?}", store.left());
}

#[actix_rt::test]
async fn what_a_killed_node_left_in_the_spool_is_swept() {
    let store = store();
    let (ours, theirs) = (HostId::from_bytes([1; 16]), HostId::from_bytes([2; 16]));
    for host in [ours, theirs] {
        std::fs::create_dir(store.datastore.spool().join(format!("base-{host}-0"))).unwrap();
    }
    assert_eq!(sweep(&store.datastore, ours).unwrap(), 1);
    assert_eq!(store.left().len(), 1);
}

#[actix_rt::test]
async fn an_image_without_layers_is_an_empty_disk() {
    let store = store();
    let image = store.load(&docker(&[])).await.unwrap();
    assert_eq!(store.names(image.id), [""; 0]);
}
