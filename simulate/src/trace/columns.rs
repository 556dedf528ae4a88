//! Rows of a csv file by the names of their columns.
//!
//! Promises: gzip is told by its first bytes, not by the file's name; every value that cannot be
//! read is an error with file, line and column. Does not: keep the file in memory.

use super::TraceError;
use berth_model::Bytes;
use csv::{Reader, StringRecord};
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

const GZIP: [u8; 2] = [0x1f, 0x8b];
/// More than any machine has; below what a float holds exactly in bytes.
const GIB_MAX: f64 = 1e6;

pub struct Table {
    path: PathBuf,
    reader: Reader<Box<dyn Read>>,
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    name: &'static str,
    position: usize,
}

/// One row; values are asked for by the position of their column's name in [`Table::open`].
pub struct Row<'a> {
    path: &'a Path,
    columns: &'a [Column],
    record: &'a StringRecord,
    line: u64,
}

impl Table {
    /// `names`: the columns that are wanted, each of which must be there.
    pub fn open(path: &Path, names: &[&'static str]) -> Result<Table, TraceError> {
        let file = File::open(path).and_then(unpacked);
        let file = file.map_err(|source| TraceError::Open { path: path.to_owned(), source })?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|error| trouble(path, &error))?;
        let column = |name: &&'static str| {
            let position = header.iter().position(|found| found == *name);
            position.map(|position| Column { name, position }).ok_or_else(|| {
                let found = header.iter().collect::<Vec<_>>().join(", ");
                TraceError::NoColumn { path: path.to_owned(), column: name, found }
            })
        };
        let columns = names.iter().map(column).collect::<Result<_, _>>()?;
        Ok(Table { path: path.to_owned(), reader, columns })
    }

    /// What `read` makes of each row, of which there must be one.
    pub fn rows<T>(
        mut self,
        mut read: impl FnMut(Row<'_>) -> Result<T, TraceError>,
    ) -> Result<Vec<T>, TraceError> {
        let mut rows = Vec::new();
        let mut record = StringRecord::new();
        loop {
            let more = self.reader.read_record(&mut record);
            if !more.map_err(|error| trouble(&self.path, &error))? {
                break;
            }
            let line = record.position().map_or(0, csv::Position::line);
            let (path, columns) = (self.path.as_path(), self.columns.as_slice());
            rows.push(read(Row { path, columns, record: &record, line })?);
        }
        if rows.is_empty() {
            return Err(TraceError::Empty { path: self.path });
        }
        Ok(rows)
    }
}

impl Row<'_> {
    pub fn text(&self, column: usize) -> &str {
        // The reader refuses rows of another length than the header's.
        self.columns.get(column).and_then(|at| self.record.get(at.position)).unwrap_or_default()
    }

    pub fn number<T: FromStr>(&self, column: usize) -> Result<T, TraceError> {
        self.text(column).parse().map_err(|_| self.not(column, "a whole number in range"))
    }

    /// GiB, which may have decimals.
    pub fn gib(&self, column: usize) -> Result<Bytes, TraceError> {
        let amount: Option<f64> = self.text(column).parse().ok();
        let amount = amount.filter(|amount| (0.0..=GIB_MAX).contains(amount));
        let amount = amount.ok_or_else(|| self.not(column, "an amount of GiB up to a million"))?;
        Ok(Bytes((amount * (1_u64 << 30) as f64).round() as u64))
    }

    /// A number that may be written with decimals, or may be missing.
    pub fn label(&self, column: usize) -> Result<Option<u64>, TraceError> {
        let text = self.text(column);
        if text.is_empty() {
            return Ok(None);
        }
        let whole = text.strip_suffix(".0").unwrap_or(text);
        whole.parse().map(Some).map_err(|_| self.not(column, "a whole number or nothing"))
    }

    /// The error that says what the value should have been.
    pub fn not(&self, column: usize, wanted: &'static str) -> TraceError {
        TraceError::Value {
            path: self.path.to_owned(),
            line: self.line,
            column: self.columns.get(column).map_or("?", |column| column.name),
            value: self.text(column).chars().take(40).collect(),
            wanted,
        }
    }
}

fn unpacked(file: File) -> std::io::Result<Box<dyn Read>> {
    let mut file = BufReader::new(file);
    let packed = file.fill_buf()?.starts_with(&GZIP);
    Ok(if packed { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
}

fn trouble(path: &Path, error: &csv::Error) -> TraceError {
    let line = error.position().map_or(1, csv::Position::line);
    TraceError::Line { path: path.to_owned(), line, trouble: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn check(text: &str) -> Result<Vec<(u32, Bytes, Option<u64>)>, TraceError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let table = Table::open(file.path(), &["cpu", "ram", "group"])?;
        table.rows(|row| Ok((row.number(0)?, row.gib(1)?, row.label(2)?)))
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let rows = check("ram,x,cpu,group\n1.5,?,2,7.0\n0.75,?,1,\n").unwrap();
        assert_eq!(rows, [(2, Bytes::mib(1536), Some(7)), (1, Bytes::mib(768), None)]);
    }

    #[test]
    fn an_error_names_line_and_column() {
        let text = check("cpu,ram,group\n1,1,\n1,lots,\n").unwrap_err().to_string();
        assert!(text.contains("line 3 column `ram`: `lots` is not"), "{text}");
        assert!(matches!(
            check("cpu,ram\n1,1\n"),
            Err(TraceError::NoColumn { column: "group", .. })
        ));
        assert!(matches!(check("cpu,ram,group\n"), Err(TraceError::Empty { .. })));
        assert!(matches!(check("cpu,ram,group\n1\n"), Err(TraceError::Line { line: 2, .. })));
        for ram in ["-1", "NaN", "inf", "1e300"] {
            let outcome = check(&format!("cpu,ram,group\n1,{ram},\n"));
            assert!(matches!(outcome, Err(TraceError::Value { .. })), "{ram}");
        }
    }

    #[test]
    fn a_packed_file_is_read_like_a_plain_one() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut packer = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
        packer.write_all(b"cpu\n3\n").unwrap();
        packer.finish().unwrap();
        let table = Table::open(file.path(), &["cpu"]).unwrap();
        assert_eq!(table.rows(|row| row.number::<u8>(0)).unwrap(), [3]);
    }
}
