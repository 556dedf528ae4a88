//! The hello-world image: one program that says a sentence and ends. It is put together here byte by
//! byte, as a compiler would make a hundred times of it.

use crate::images::tree::Tree;

const TEXT: &str = "
Hello from berth!
This container had a virtual machine and a kernel of its own. To try more:
  docker run --rm busybox uname -r
  docker run --rm -it busybox

";

pub fn tree() -> Tree {
    let mut tree = Tree::default();
    tree.file("hello", 0o755, program(TEXT.as_bytes()));
    tree
}

/// Where the file is mapped to.
const BASE: u64 = 0x40_0000;
const FILE_HEADER: usize = 64;
const SEGMENT_HEADER: usize = 56;

/// An x86-64 program for Linux: `write(1, text, length); exit(0)`.
fn program(text: &[u8]) -> Vec<u8> {
    let code_at = (FILE_HEADER + SEGMENT_HEADER) as u64;
    let length = u32::try_from(text.len()).expect("the text is a few lines").to_le_bytes();
    let code = [
        &[0xb8, 1, 0, 0, 0][..],          // mov eax, 1 (write)
        &[0xbf, 1, 0, 0, 0],              // mov edi, 1
        &[0x48, 0x8d, 0x35, 16, 0, 0, 0], // lea rsi, [rip + 16], behind the last instruction
        &[0xba][..],                      // mov edx, length
        &length,
        &[0x0f, 0x05],        // syscall
        &[0xb8, 60, 0, 0, 0], // mov eax, 60 (exit)
        &[0x31, 0xff],        // xor edi, edi
        &[0x0f, 0x05],        // syscall
    ]
    .concat();
    let size = code_at + (code.len() + text.len()) as u64;

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 0x3e, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
    for word in [BASE + code_at, FILE_HEADER as u64, 0] {
        file.extend(word.to_le_bytes()); // entry, segments, no sections
    }
    file.extend([0; 4]);
    for half in [FILE_HEADER as u16, SEGMENT_HEADER as u16, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // to load, readable and executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file.extend(text);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_program_says_its_text_and_ends_well() {
        let bytes = program(TEXT.as_bytes());
        assert!(elf::is_static_program(&bytes));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hello");
        // Written by a process of its own: while this one had the file open for writing, a child of
        // another test could inherit that, and the file would be too busy to run.
        let mut install = Command::new("install")
            .args(["-m755", "/dev/stdin"])
            .arg(&file)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        install.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(install.wait().unwrap().success());
        let output = Command::new(&file).output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), TEXT);
    }
}
