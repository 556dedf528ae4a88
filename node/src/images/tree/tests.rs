//! Layers over layers, by hand and against a plainer model.

use super::*;
use crate::images::tar_out::entry;

const DIRECTORY: TarKind = TarKind::Directory;
const FILE: TarKind = TarKind::File;

fn symlink(target: &str) -> TarKind {
    TarKind::Symlink(target.as_bytes().to_vec())
}

fn link(target: &str) -> TarKind {
    TarKind::Link(target.as_bytes().to_vec())
}

fn lay(layers: &[&[(&str, TarKind)]]) -> Result<Tree, TreeError> {
    let mut tree = Tree::default();
    for (layer, entries) in layers.iter().enumerate() {
        for (ordinal, (path, kind)) in entries.iter().enumerate() {
            let source = Source { layer, ordinal: ordinal as u64 };
            tree.lay(entry(path, kind.clone()), source)?;
        }
    }
    Ok(tree)
}

/// Names with the layer of their inode: `a@0`.
fn check(layers: &[&[(&str, TarKind)]]) -> Vec<String> {
    let tree = lay(layers).unwrap();
    let shown = |(path, name): (&Vec<u8>, &Name)| {
        format!("{}@{}", show(path), tree.inodes[name.inode].source.layer)
    };
    tree.names.iter().filter(|(path, _)| !path.is_empty()).map(shown).collect()
}

#[test]
fn a_whiteout_hides_a_lower_file_and_a_whole_lower_directory() {
    let lower: &[_] = &[("a", FILE), ("d", DIRECTORY), ("d/x", FILE), ("d/y", FILE)];
    assert_eq!(check(&[lower, &[(".wh.a", FILE), (".wh.d", FILE)]]), [""; 0]);
    assert_eq!(check(&[lower, &[("d/.wh.x", FILE)]]), ["a@0", "d@0", "d/y@0"]);
}

#[test]
fn a_whiteout_never_hides_what_its_own_layer_brings_in_whatever_order() {
    let lower: &[_] = &[("d", DIRECTORY), ("d/old", FILE)];
    let after: &[_] = &[("d", DIRECTORY), ("d/new", FILE), (".wh.d", FILE)];
    let before: &[_] = &[(".wh.d", FILE), ("d", DIRECTORY), ("d/new", FILE)];
    assert_eq!(check(&[lower, after]), ["d@1", "d/new@1"]);
    assert_eq!(check(&[lower, before]), ["d@1", "d/new@1"]);
}

#[test]
fn an_opaque_directory_shows_only_its_own_layer() {
    let lower: &[_] = &[("d", DIRECTORY), ("d/old", FILE), ("d/sub", DIRECTORY)];
    let upper: &[_] = &[("d/new", FILE), ("d/.wh..wh..opq", FILE)];
    assert_eq!(check(&[lower, upper]), ["d@0", "d/new@1"]);
    let deep: &[_] = &[("d/sub/new", FILE), ("d/.wh..wh..opq", FILE)];
    assert_eq!(check(&[lower, deep]), ["d@0", "d/sub@0", "d/sub/new@1"]);
}

#[test]
fn a_hidden_name_may_come_back_in_a_later_layer() {
    let layers: &[&[_]] = &[&[("a", FILE)], &[(".wh.a", FILE)], &[("a", FILE)]];
    assert_eq!(check(layers), ["a@2"]);
}

#[test]
fn a_file_over_a_directory_takes_all_of_it_and_a_directory_over_a_file_too() {
    let lower: &[_] = &[("d", DIRECTORY), ("d/x", FILE), ("f", FILE)];
    assert_eq!(check(&[lower, &[("d", FILE), ("f", DIRECTORY)]]), ["d@1", "f@1"]);
}

#[test]
fn names_that_only_begin_alike_are_left_alone() {
    let lower: &[_] = &[("d", DIRECTORY), ("d/x", FILE), ("d-e", FILE), ("d0", FILE)];
    assert_eq!(check(&[lower, &[(".wh.d", FILE)]]), ["d-e@0", "d0@0"]);
}

#[test]
fn a_hard_link_across_layers_keeps_its_inode_when_the_target_is_replaced() {
    let layers: &[&[_]] = &[&[("a", FILE)], &[("b", link("a"))], &[("a", FILE)]];
    assert_eq!(check(layers), ["a@2", "b@0"]);
    let tree = lay(&[&[("a", FILE)], &[("b", link("a"))]]).unwrap();
    assert_eq!(tree.leaves().len(), 1);
    assert_eq!(tree.leaves()[0].1, [b"a", b"b"]);
    let gone = lay(&[&[("a", FILE)], &[("b", link("a")), (".wh.a", FILE)]]).unwrap();
    assert_eq!(gone.leaves()[0].1, [b"b"]);
}

#[test]
fn a_parent_that_is_a_symbolic_link_is_followed_inside_the_image() {
    let merged: &[_] = &[("usr/lib", DIRECTORY), ("lib", symlink("usr/lib"))];
    let names = check(&[merged, &[("lib/x.so", FILE)]]);
    assert_eq!(names, ["lib@0", "usr@0", "usr/lib@0", "usr/lib/x.so@1"]);
    let out: &[_] = &[("out", symlink("../../../etc")), ("out/passwd", FILE)];
    assert_eq!(check(&[out]), ["etc@0", "etc/passwd@0", "out@0"]);
    let absolute: &[_] = &[("out", symlink("/etc")), ("out/passwd", FILE)];
    assert_eq!(check(&[absolute]), ["etc@0", "etc/passwd@0", "out@0"]);
    let hidden = check(&[merged, &[("lib/x.so", FILE)], &[("lib/.wh.x.so", FILE)]]);
    assert_eq!(hidden, ["lib@0", "usr@0", "usr/lib@0"]);
}

#[test]
fn names_that_lead_astray_are_refused() {
    let refused = |entries: &[(&str, TarKind)]| lay(&[entries]).unwrap_err();
    assert!(matches!(refused(&[("/etc/passwd", FILE)]), TreeError::Absolute(_)));
    assert!(matches!(refused(&[("a/../../b", FILE)]), TreeError::Climbs(_)));
    assert!(matches!(refused(&[("a", link("../x"))]), TreeError::Climbs(_)));
    assert!(matches!(refused(&[("a", link("b"))]), TreeError::LinkTarget { .. }));
    assert!(matches!(refused(&[("d", DIRECTORY), ("a", link("d"))]), TreeError::LinkTarget { .. }));
    assert!(matches!(refused(&[("f", FILE), ("f/x", FILE)]), TreeError::BelowFile(_)));
    assert!(matches!(refused(&[(".", FILE)]), TreeError::Root));
    let circle: &[_] = &[("a", symlink("b")), ("b", symlink("a")), ("a/x", FILE)];
    assert!(matches!(refused(circle), TreeError::Loop(_)));
    let long = "x".repeat(256);
    assert!(matches!(refused(&[(&long, FILE)]), TreeError::TooLong(_)));
}

#[test]
fn marks_of_older_unions_are_dropped() {
    let foreign: &[_] =
        &[(".wh..wh.aufs", FILE), (".wh..wh.plnk/1.2", FILE), ("a", FILE), (".wh.", FILE)];
    assert_eq!(check(&[foreign]), ["a@0"]);
}

#[test]
fn the_roots_attributes_are_those_of_the_last_layer_that_names_it() {
    let mut root = entry("./", DIRECTORY);
    root.mode = 0o700;
    let mut tree = Tree::default();
    tree.lay(root, Source { layer: 0, ordinal: 0 }).unwrap();
    assert_eq!(tree.root().mode, 0o700);
}

/// One entry of a generated layer.
#[derive(Clone, Debug)]
enum Said {
    File(String),
    Directory(String),
    Whiteout(String),
    Opaque(String),
}

/// The plain way: what a layer hides goes first, then its entries come in their order.
#[derive(Default)]
struct Plain(BTreeMap<String, bool>);

impl Plain {
    fn remove_below(&mut self, path: &str) {
        let prefix = format!("{path}/");
        self.0.retain(|name, _| !name.starts_with(&prefix));
    }

    fn make(&mut self, path: &str, directory: bool) {
        for (position, _) in path.match_indices('/') {
            self.0.insert(path[..position].to_owned(), true);
        }
        if !directory {
            self.remove_below(path);
        }
        self.0.insert(path.to_owned(), directory);
    }

    fn lay(&mut self, layer: &[Said]) {
        for said in layer {
            match said {
                Said::Whiteout(path) => {
                    self.remove_below(path);
                    self.0.remove(path);
                }
                Said::Opaque(path) => self.remove_below(path),
                Said::File(_) | Said::Directory(_) => {}
            }
        }
        for said in layer {
            match said {
                Said::File(path) => self.make(path, false),
                Said::Directory(path) => self.make(path, true),
                Said::Whiteout(_) | Said::Opaque(_) => {}
            }
        }
    }
}

fn said_as_entry(said: &Said) -> TarEntry {
    match said {
        Said::File(path) => entry(path, FILE),
        Said::Directory(path) => entry(path, DIRECTORY),
        Said::Opaque(path) => entry(&format!("{path}/.wh..wh..opq"), FILE),
        Said::Whiteout(path) => {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            entry(format!("{parent}/.wh.{name}").trim_start_matches('/'), FILE)
        }
    }
}

fn layers() -> impl proptest::strategy::Strategy<Value = Vec<Vec<Said>>> {
    use proptest::prelude::*;
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4)
        .prop_map(|parts| parts.join("/"));
    let said = (0..5, path).prop_map(|(kind, path)| match kind {
        0 | 1 => Said::File(path),
        2 => Said::Directory(path),
        3 => Said::Whiteout(path),
        _ => Said::Opaque(path),
    });
    prop::collection::vec(prop::collection::vec(said, 0..6), 1..4)
}

proptest::proptest! {
    #[test]
    fn layers_come_to_the_same_whatever_the_order_of_their_marks(layers in layers()) {
        let (mut tree, mut plain) = (Tree::default(), Plain::default());
        for (layer, entries) in layers.iter().enumerate() {
            for (ordinal, said) in entries.iter().enumerate() {
                let source = Source { layer, ordinal: ordinal as u64 };
                match tree.lay(said_as_entry(said), source) {
                    Ok(()) => {}
                    // No tool writes a name below a file; the plain way would not notice.
                    Err(TreeError::BelowFile(_)) => return Ok(()),
                    Err(error) => panic!("{error}"),
                }
            }
            plain.lay(entries);
        }
        let laid: BTreeMap<String, bool> = tree
            .names
            .iter()
            .filter(|(path, _)| !path.is_empty())
            .map(|(path, name)| (show(path), tree.inodes[name.inode].entry.kind == DIRECTORY))
            .collect();
        proptest::prop_assert_eq!(laid, plain.0);
    }
}
