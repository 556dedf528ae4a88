//! Lines in output that comes in pieces: each stream has its own, they count together.

use super::Piece;
use berth_model::stream::OutputStream;

/// Numbers lines as they begin, and drops those that are to be skipped.
#[derive(Debug, Default)]
pub struct Lines {
    skip: u64,
    begun: u64,
    /// For each stream, inside a line: whether it is kept.
    stdout: Option<bool>,
    stderr: Option<bool>,
}

impl Lines {
    pub fn skipping(skip: u64) -> Lines {
        Lines { skip, ..Lines::default() }
    }

    /// Lines that have begun so far.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The piece without the lines that are skipped; `None` if nothing is left.
    pub fn keep(&mut self, mut piece: Piece) -> Option<Piece> {
        let Lines { skip, begun, stdout, stderr } = self;
        let inside = match piece.stream {
            OutputStream::Stdout => stdout,
            OutputStream::Stderr => stderr,
        };
        let mut kept = Vec::new();
        for line in piece.data.split_inclusive(|byte| *byte == b'\n') {
            let keep = *inside.get_or_insert_with(|| {
                *begun += 1;
                *begun > *skip
            });
            if keep {
                kept.extend_from_slice(line);
            }
            if line.last() == Some(&b'\n') {
                *inside = None;
            }
        }
        piece.data = kept;
        (!piece.data.is_empty()).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: OutputStream, text: &str) -> Piece {
        Piece { stream, time_ns: 0, data: text.as_bytes().to_vec() }
    }

    fn check(skip: u64, pieces: &[(OutputStream, &str)]) -> (u64, String) {
        let mut lines = Lines::skipping(skip);
        let kept = pieces.iter().filter_map(|(stream, text)| lines.keep(piece(*stream, text)));
        let kept: Vec<u8> = kept.flat_map(|piece| piece.data).collect();
        (lines.begun(), String::from_utf8(kept).unwrap())
    }

    use OutputStream::{Stderr, Stdout};

    #[test]
    fn lines_are_counted_over_pieces_and_streams() {
        let pieces = [(Stdout, "a\nb"), (Stderr, "x\n"), (Stdout, "b\nc")];
        assert_eq!(check(0, &pieces), (4, "a\nbx\nb\nc".to_owned()));
        assert_eq!(check(1, &pieces), (4, "bx\nb\nc".to_owned()));
        assert_eq!(check(2, &pieces), (4, "x\nc".to_owned()));
        assert_eq!(check(9, &pieces), (4, String::new()));
    }
}
