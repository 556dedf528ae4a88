//! The container's output on its way into the log port.
//!
//! ```text
//!  stdout, stderr ──room()──► records ──► buffer ──► log port (a file on the datastore)
//! ```
//! Promises: records go out whole and in order; no more is taken in than the buffer holds and the
//! log's credit allows, so a log that does not take any more blocks the process as a full pipe
//! does, and never the agent. Only the exit record may go beyond the credit.

use berth_wire::record::{HEADER, RecordEncoder, Stream};

/// One record fits one buffer of the kernel's port driver, which holds 32 KiB.
const PAYLOAD: usize = (32 << 10) - HEADER;
/// Two full records and a bit.
const BUFFER: usize = 96 << 10;

pub struct Output {
    encoder: RecordEncoder,
    buffer: Vec<u8>,
    start: usize,
    /// Bytes of records taken in since the log began.
    accepted: u64,
    credit: u64,
}

impl Output {
    /// For a new, empty log that may grow to `credit` bytes.
    pub fn new(credit: u64) -> Output {
        Output {
            encoder: RecordEncoder::default(),
            buffer: Vec::new(),
            start: 0,
            accepted: 0,
            credit,
        }
    }

    /// The log may grow to this many bytes. Credit once given is not taken back.
    pub fn raise_credit(&mut self, upto: u64) {
        self.credit = self.credit.max(upto);
    }

    /// How many bytes of the process's output may be taken in now.
    pub fn room(&self) -> usize {
        let credit =
            usize::try_from(self.credit.saturating_sub(self.accepted)).unwrap_or(usize::MAX);
        let buffer = BUFFER.saturating_sub(self.waiting().len());
        credit.min(buffer).saturating_sub(HEADER).min(PAYLOAD)
    }

    /// Takes in output; at most [`Self::room`] bytes.
    pub fn accept(&mut self, stream: Stream, time_ns: u64, payload: &[u8]) {
        self.append(stream, time_ns, payload);
    }

    /// The last record. It is small and may go beyond the credit.
    pub fn accept_exit(&mut self, time_ns: u64, payload: &[u8]) {
        self.append(Stream::Exit, time_ns, payload);
    }

    fn append(&mut self, stream: Stream, time_ns: u64, payload: &[u8]) {
        if self.start > 0 && self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > BUFFER {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.encoder.encode(stream, time_ns, payload, &mut self.buffer);
        self.accepted += (HEADER + payload.len()) as u64;
    }

    /// Bytes that the log port should take.
    pub fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    pub fn written(&mut self, count: usize) {
        self.start += count;
    }

    /// Bytes of records taken in so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_wire::record::RecordReader;

    /// A process that always has more to say, and a port that takes it all.
    fn run(output: &mut Output, log: &mut Vec<u8>) {
        loop {
            let room = output.room();
            if room > 0 {
                output.accept(Stream::Stdout, 1, &vec![b'x'; room]);
            }
            let count = output.waiting().len().min(10_000);
            log.extend_from_slice(&output.waiting()[..count]);
            output.written(count);
            if room == 0 && count == 0 {
                return;
            }
        }
    }

    #[test]
    fn a_log_ends_within_its_credit_at_a_border_of_records() {
        let mut output = Output::new(100_000);
        let mut log = Vec::new();
        run(&mut output, &mut log);
        assert!(log.len() <= 100_000 && log.len() > 100_000 - HEADER - 1, "{}", log.len());
        assert_eq!(output.accepted(), log.len() as u64);
        let mut reader = RecordReader::starting_at(0);
        reader.push(&log);
        while reader.next().unwrap().is_some() {}
        assert_eq!(reader.pending(), 0);
    }

    #[test]
    fn more_credit_lets_it_go_on() {
        let mut output = Output::new(10);
        let mut log = Vec::new();
        run(&mut output, &mut log);
        assert!(log.is_empty());
        output.raise_credit(1000);
        output.raise_credit(500);
        run(&mut output, &mut log);
        assert_eq!(log.len(), 1000);
    }

    #[test]
    fn a_port_that_takes_nothing_bounds_the_buffer() {
        let mut output = Output::new(u64::MAX);
        while output.room() > 0 {
            let room = output.room();
            output.accept(Stream::Stderr, 1, &vec![0; room]);
        }
        assert!(output.waiting().len() <= BUFFER);
    }

    #[test]
    fn the_exit_fits_even_without_credit() {
        let mut output = Output::new(0);
        output.accept_exit(1, b"exit");
        assert_eq!(output.waiting().len(), HEADER + 4);
    }
}
