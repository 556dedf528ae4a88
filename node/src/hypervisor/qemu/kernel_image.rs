//! The guest's kernel, unpacked once on the host instead of by every guest.
//!
//! A `vmlinuz` is a small program around a compressed kernel. A translated guest spends a quarter of a
//! second on unpacking it, and holds both forms in memory of its own; the unpacked file is mapped by
//! all QEMU processes together. QEMU starts such a kernel through its PVH entry.
//!
//! Promises: what cannot be unpacked or has no such entry is left alone, and guests start the slower way;
//! the file appears whole, under a name that changes with the kernel.
//! Does not: judge a kernel beyond that. Layout of the header: Documentation/arch/x86/boot.rst in Linux.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// No kernel is larger unpacked.
const UNPACKED_MAX: usize = 512 << 20;
/// Blocks of the legacy LZ4 format hold so much, the last one less.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// An ELF note of Xen's: name of 4 bytes, a value of 4 or 8, type 18 is the PVH entry.
const PVH_NOTES: [[u8; 16]; 2] =
    [*b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0", *b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0"];

/// The unpacked form of `vmlinuz`, made now or earlier beside it or else in `state_directory`; `None` if
/// it has none.
pub fn unpacked(vmlinuz: &Path, state_directory: &Path) -> io::Result<Option<PathBuf>> {
    let metadata = std::fs::metadata(vmlinuz)?;
    let name =
        format!("vmlinux-{}-{}.{:09}", metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    let beside = vmlinuz.with_file_name(&name);
    let apart = state_directory.join(&name);
    for made in [&beside, &apart] {
        if made.is_file() {
            return Ok(Some(made.clone()));
        }
    }
    let Some(kernel) = unpack(&std::fs::read(vmlinuz)?) else { return Ok(None) };
    // Beside its source it is shared by all nodes of a machine, but that place may be read-only.
    match write(&beside, &kernel) {
        Ok(()) => Ok(Some(beside)),
        Err(_) => write(&apart, &kernel).map(|()| Some(apart)),
    }
}

fn write(path: &Path, kernel: &[u8]) -> io::Result<()> {
    let making = path.with_extension(crate::randomness::word());
    let written = std::fs::write(&making, kernel)
        .and_then(|()| File::open(&making)?.sync_data())
        .and_then(|()| std::fs::rename(&making, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&making);
    }
    written
}

fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    let kernel = decompress(payload(image)?)?;
    has_pvh_entry(&kernel)?.then_some(kernel)
}

/// Looks through the notes of a 64-bit ELF file.
fn has_pvh_entry(kernel: &[u8]) -> Option<bool> {
    const NOTE: usize = 4;
    if !kernel.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size) = (u64_at(kernel, 0x20)?, usize::from(u16_at(kernel, 0x36)?));
    for segment in 0..usize::from(u16_at(kernel, 0x38)?) {
        let header = kernel.get(table.checked_add(segment * size)?..)?;
        if u32_at(header, 0)? != NOTE {
            continue;
        }
        let (start, length) = (u64_at(header, 8)?, u64_at(header, 32)?);
        let notes = kernel.get(start..start.checked_add(length)?)?;
        if notes.windows(16).any(|note| PVH_NOTES.iter().any(|pvh| note == pvh)) {
            return Some(true);
        }
    }
    Some(false)
}

/// The compressed kernel in a `vmlinuz`, its boot protocol being 2.08 or later.
fn payload(image: &[u8]) -> Option<&[u8]> {
    if image.get(0x202..0x206)? != b"HdrS" || u16_at(image, 0x206)? < 0x208 {
        return None;
    }
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + u32_at(image, 0x248)?;
    image.get(start..start.checked_add(u32_at(image, 0x24c)?)?)
}

fn decompress(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.starts_with(&GZIP) {
        let mut kernel = Vec::new();
        let decoder = flate2::read::GzDecoder::new(payload);
        decoder.take(UNPACKED_MAX as u64).read_to_end(&mut kernel).ok()?;
        return Some(kernel);
    }
    // Behind the last block stands the unpacked length.
    let mut blocks = payload.strip_prefix(&LZ4_LEGACY)?.split_last_chunk::<4>()?.0;
    let mut kernel = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    while !blocks.is_empty() {
        let length = u32_at(blocks, 0)?;
        let packed = blocks.get(4..length.checked_add(4)?)?;
        let count = lz4_flex::block::decompress_into(packed, &mut block).ok()?;
        if kernel.len() + count > UNPACKED_MAX {
            return None;
        }
        kernel.extend_from_slice(&block[..count]);
        blocks = &blocks[4 + length..];
    }
    Some(kernel)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let number = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u64::from_le_bytes(*number)).ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `vmlinuz` that holds `kernel`, compressed as Debian does.
    fn image(kernel: &[u8]) -> Vec<u8> {
        let mut payload = LZ4_LEGACY.to_vec();
        for block in kernel.chunks(LZ4_BLOCK) {
            let packed = lz4_flex::block::compress(block);
            payload.extend_from_slice(&u32::try_from(packed.len()).unwrap().to_le_bytes());
            payload.extend_from_slice(&packed);
        }
        payload.extend_from_slice(&u32::try_from(kernel.len()).unwrap().to_le_bytes());
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(&payload);
        image
    }

    /// An ELF file of one segment, which holds `note`.
    fn kernel(note: &[u8]) -> Vec<u8> {
        let mut kernel = vec![0; 64 + 56];
        kernel[..6].copy_from_slice(b"\x7fELF\x02\x01");
        kernel[0x20] = 64;
        kernel[0x36] = 56;
        kernel[0x38] = 1;
        kernel.resize(LZ4_BLOCK + 1000, 7);
        kernel[64] = 4;
        let start = (kernel.len() as u64).to_le_bytes();
        kernel[64 + 8..64 + 16].copy_from_slice(&start);
        kernel[64 + 32] = u8::try_from(note.len()).unwrap();
        kernel.extend_from_slice(note);
        kernel
    }

    #[test]
    fn a_kernel_is_unpacked_once_and_shared() {
        let (assets, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let vmlinuz = assets.path().join("vmlinuz");
        std::fs::write(&vmlinuz, image(&kernel(&PVH_NOTES[1]))).unwrap();
        let made = unpacked(&vmlinuz, state.path()).unwrap().unwrap();
        assert_eq!(made.parent(), Some(assets.path()));
        assert!(std::fs::read(&made).unwrap() == kernel(&PVH_NOTES[1]));
        assert_eq!(unpacked(&vmlinuz, state.path()).unwrap(), Some(made));
    }

    #[test]
    fn what_is_no_such_kernel_is_left_alone() {
        assert!(unpack(&image(&kernel(b"\x04\0\0\0\x04\0\0\0\x07\0\0\0Xen\0"))).is_none());
        assert!(unpack(b"not a kernel").is_none());
        let whole = image(&kernel(&PVH_NOTES[1]));
        for length in [0x1f1, 0x206, 0x24c, 1024, 1030, whole.len() - 1] {
            assert!(unpack(&whole[..length]).is_none(), "{length} bytes");
        }
    }
}
