//! The two things asked of an ELF file: what a section holds, and whether it runs without a dynamic
//! linker. 64-bit little-endian files only, which is all that an x86-64 guest runs.
//!
//! Any bytes may come in: a file that is cut short or lies about its offsets has no such section.

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const SEGMENT_INTERPRETER: u32 = 3;

/// The bytes of the first section of this name.
pub fn section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let table = Table::read(file, 0x28, 0x3a, 0x3c)?;
    let names_at = usize::from(u16_at(file, 0x3e)?);
    let names = contents(file, table.entry(file, names_at)?)?;
    (0..table.count)
        .filter_map(|index| table.entry(file, index))
        .find(|header| name_at(names, header) == Some(name.as_bytes()))
        .and_then(|header| contents(file, header))
}

/// Whether this is a program that the kernel starts without the help of a dynamic linker.
pub fn is_static_program(file: &[u8]) -> bool {
    let Some(segments) = Table::read(file, 0x20, 0x36, 0x38) else { return false };
    segments.count > 0
        && (0..segments.count).all(|index| {
            let kind = segments.entry(file, index).and_then(|header| u32_at(header, 0));
            kind.is_some_and(|kind| kind != SEGMENT_INTERPRETER)
        })
}

/// A table of headers of one size.
struct Table {
    offset: usize,
    entry_size: usize,
    count: usize,
}

impl Table {
    fn read(file: &[u8], offset_at: usize, size_at: usize, count_at: usize) -> Option<Table> {
        if !file.starts_with(MAGIC) {
            return None;
        }
        Some(Table {
            offset: u64_at(file, offset_at)?,
            entry_size: usize::from(u16_at(file, size_at)?),
            count: usize::from(u16_at(file, count_at)?),
        })
    }

    fn entry<'a>(&self, file: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let start = self.offset.checked_add(index.checked_mul(self.entry_size)?)?;
        file.get(start..start.checked_add(self.entry_size)?)
    }
}

fn contents<'a>(file: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = u64_at(header, 0x18)?;
    file.get(start..start.checked_add(u64_at(header, 0x20)?)?)
}

fn name_at<'a>(names: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    names.get(u32_at(header, 0)? as usize..)?.split(|byte| *byte == 0).next()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?)).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A file with one section beside the table of names.
    pub fn file_with_section(name: &str, bytes: &[u8]) -> Vec<u8> {
        let names = [b"\0", name.as_bytes(), b"\0"].concat();
        let mut file = vec![0; 0x40];
        file[..MAGIC.len()].copy_from_slice(MAGIC);
        let names_at = file.len();
        file.extend(&names);
        let bytes_at = file.len();
        file.extend(bytes);
        let headers_at = file.len() as u64;
        for (name, at, length) in [(0u32, names_at, names.len()), (1, bytes_at, bytes.len())] {
            let mut header = vec![0; 0x40];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(header);
        }
        file[0x28..0x30].copy_from_slice(&headers_at.to_le_bytes());
        file[0x3a..0x3c].copy_from_slice(&0x40u16.to_le_bytes());
        file[0x3c..0x3e].copy_from_slice(&2u16.to_le_bytes());
        file
    }

    #[test]
    fn a_section_is_found_by_its_name() {
        let file = file_with_section(".modinfo", b"name=overlay\0");
        assert_eq!(section(&file, ".modinfo"), Some(&b"name=overlay\0"[..]));
        assert_eq!(section(&file, ".text"), None);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_has_no_section_and_breaks_nothing() {
        let file = file_with_section(".modinfo", b"name=overlay\0");
        for length in 0..file.len() {
            assert_eq!(section(&file[..length], ".modinfo"), None);
        }
    }

    #[test]
    fn this_test_is_not_a_static_program_and_text_is_no_program() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        assert!(!is_static_program(&program));
        assert!(!is_static_program(b"#!/bin/sh\n"));
    }
}
