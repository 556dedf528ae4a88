//! Two endpoints over pipes that are cut at any byte, beside the plain list of what was sent.

use super::frame::{self, Decoder, Frame, Mode};
use super::{ChannelError, Endpoint, Full, TO_GUEST_MESSAGE_MAX, TO_HOST_MESSAGE_MAX};
use proptest::prelude::*;

/// Both ends and what is between them.
struct Wire {
    host: Endpoint,
    guest: Endpoint,
    to_guest: Vec<u8>,
    to_host: Vec<u8>,
    nonce: u64,
}

impl Wire {
    fn new() -> Wire {
        Wire {
            host: Endpoint::host(1..=1),
            guest: Endpoint::guest(1..=1),
            to_guest: Vec::new(),
            to_host: Vec::new(),
            nonce: 0x5eed,
        }
    }

    fn connected() -> Wire {
        let mut wire = Wire::new();
        wire.reconnect();
        wire.settle();
        wire
    }

    fn nonce(&mut self) -> u64 {
        self.nonce = self.nonce.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.nonce
    }

    fn reconnect(&mut self) {
        let nonce = self.nonce();
        self.host.reconnected(nonce);
    }

    /// The host end goes away: of what is in flight only a part arrives, and the rest never.
    fn cut(&mut self, keep_to_guest: (f64, f64), keep_to_host: (f64, f64)) {
        for (pipe, (from, to)) in
            [(&mut self.to_guest, keep_to_guest), (&mut self.to_host, keep_to_host)]
        {
            let length = pipe.len() as f64;
            let (from, to) = ((from * length) as usize, (to * length) as usize);
            *pipe = pipe[from.min(to)..from.max(to)].to_vec();
        }
        self.reconnect();
    }

    fn write(endpoint: &mut Endpoint, pipe: &mut Vec<u8>, most: usize) {
        let bytes = endpoint.outgoing();
        let count = bytes.len().min(most);
        pipe.extend_from_slice(&bytes[..count]);
        endpoint.written(count);
    }

    /// Moves up to `most` bytes each way. Says hello again where the host fell out of step.
    fn step(&mut self, most: usize) {
        Self::write(&mut self.host, &mut self.to_guest, most);
        Self::write(&mut self.guest, &mut self.to_host, most);
        let count = self.to_guest.len().min(most);
        let bytes: Vec<u8> = self.to_guest.drain(..count).collect();
        let _out_of_step_is_told_to_the_host = self.guest.receive(&bytes);
        let count = self.to_host.len().min(most);
        let bytes: Vec<u8> = self.to_host.drain(..count).collect();
        match self.host.receive(&bytes) {
            Ok(()) => {}
            Err(ChannelError::OutOfStep) => self.reconnect(),
            Err(error) => panic!("{error}"),
        }
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            self.step(1 << 20);
            if self.to_guest.is_empty()
                && self.to_host.is_empty()
                && self.host.outgoing().is_empty()
                && self.guest.outgoing().is_empty()
            {
                return;
            }
        }
        panic!("the two ends never come to rest");
    }
}

fn drain(endpoint: &mut Endpoint) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| endpoint.pop()).collect()
}

/// Settles and takes until nothing moves any more.
fn finish(wire: &mut Wire, at_guest: &mut Vec<Vec<u8>>, at_host: &mut Vec<Vec<u8>>) {
    loop {
        wire.settle();
        let (guest, host) = (drain(&mut wire.guest), drain(&mut wire.host));
        if guest.is_empty() && host.is_empty() {
            return;
        }
        at_guest.extend(guest);
        at_host.extend(host);
    }
}

#[test]
fn messages_go_both_ways() {
    let mut wire = Wire::connected();
    wire.host.send(b"run").unwrap();
    wire.guest.send(b"ready").unwrap();
    wire.guest.send(b"").unwrap();
    wire.settle();
    assert_eq!(drain(&mut wire.guest), [b"run".to_vec()]);
    assert_eq!(drain(&mut wire.host), [b"ready".to_vec(), Vec::new()]);
    wire.settle();
    assert!(wire.host.all_taken() && wire.guest.all_taken());
}

#[test]
fn a_message_of_the_largest_size_arrives() {
    let mut wire = Wire::connected();
    let (large, small) = (vec![7; TO_GUEST_MESSAGE_MAX], vec![9; TO_HOST_MESSAGE_MAX]);
    wire.host.send(&large).unwrap();
    wire.guest.send(&small).unwrap();
    wire.settle();
    assert_eq!(wire.guest.pop(), Some(large));
    assert_eq!(wire.host.pop(), Some(small));
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let mut wire = Wire::connected();
    let refused = wire.host.send(&vec![0; TO_GUEST_MESSAGE_MAX + 1]);
    assert!(matches!(refused, Err(Full::TooLong { .. })));
}

#[test]
fn a_full_window_pushes_back_until_the_peer_takes() {
    let mut wire = Wire::connected();
    let mut sent = 0;
    while wire.guest.send(&[1; 1000]).is_ok() {
        sent += 1;
    }
    wire.settle();
    assert_eq!(wire.guest.send(&[1; 1000]), Err(Full::Window), "delivered, but nobody took them");
    assert_eq!(drain(&mut wire.host).len(), sent);
    wire.settle();
    wire.guest.send(&[1; 1000]).unwrap();
}

#[test]
fn what_a_dead_host_had_not_taken_goes_to_the_next() {
    let mut wire = Wire::connected();
    for message in [b"one", b"two", b"six"] {
        wire.guest.send(message).unwrap();
    }
    wire.settle();
    assert_eq!(wire.host.pop(), Some(b"one".to_vec()));
    wire.settle();
    wire.host.send(b"lost").unwrap();

    wire.host = Endpoint::host(1..=1);
    wire.to_host.clear();
    wire.reconnect();
    wire.settle();
    assert_eq!(wire.guest.hosts_met(), 2);
    assert_eq!(drain(&mut wire.host), [b"two".to_vec(), b"six".to_vec()]);
    wire.host.send(b"new").unwrap();
    wire.settle();
    assert_eq!(drain(&mut wire.guest), [b"new".to_vec()]);
}

#[test]
fn a_guest_that_forgot_is_seen() {
    let mut wire = Wire::connected();
    wire.guest = Endpoint::guest(1..=1);
    wire.reconnect();
    let mut error = None;
    for _ in 0..10 {
        Wire::write(&mut wire.host, &mut wire.to_guest, usize::MAX);
        wire.guest.receive(&std::mem::take(&mut wire.to_guest)).unwrap();
        Wire::write(&mut wire.guest, &mut wire.to_host, usize::MAX);
        error = error.or(wire.host.receive(&std::mem::take(&mut wire.to_host)).err());
    }
    assert_eq!(error, Some(ChannelError::GuestForgot));
}

#[test]
fn without_a_common_protocol_the_host_hears_what_the_guest_speaks() {
    let (mut host, mut guest) = (Endpoint::host(2..=3), Endpoint::guest(1..=1));
    host.reconnected(7);
    guest.receive(host.outgoing()).unwrap();
    assert_eq!(host.receive(guest.outgoing()), Err(ChannelError::Protocol { min: 1, max: 1 }));
    assert_eq!(guest.protocol(), None);
}

#[test]
fn the_highest_common_protocol_is_agreed() {
    let (mut host, mut guest) = (Endpoint::host(1..=5), Endpoint::guest(2..=3));
    host.reconnected(7);
    guest.receive(host.outgoing()).unwrap();
    host.receive(guest.outgoing()).unwrap();
    assert_eq!((host.protocol(), guest.protocol()), (Some(3), Some(3)));
}

#[test]
fn a_hello_inside_a_payload_that_was_cut_is_not_heard() {
    let mut wire = Wire::connected();
    let mut forged = Vec::new();
    let hello = frame::Hello {
        nonce: 666,
        incarnation: 666,
        expected: 0,
        taken: 0,
        protocol_min: 1,
        protocol_max: 1,
    };
    frame::write_hello(&hello, &mut forged);
    let mut payload = forged.clone();
    payload.extend_from_slice(&[1; 1000]);
    wire.host.send(&payload).unwrap();
    Wire::write(&mut wire.host, &mut wire.to_guest, forged.len() + 100);
    wire.cut((0.0, 1.0), (0.0, 1.0));
    wire.settle();
    assert_eq!(wire.guest.hosts_met(), 1);
    assert_eq!(drain(&mut wire.guest), [payload]);
}

/// A host that met a guest, and will get frames made by hand.
fn host_in_step() -> Endpoint {
    let mut wire = Wire::connected();
    assert!(wire.host.in_step());
    std::mem::replace(&mut wire.host, Endpoint::host(1..=1))
}

#[test]
fn a_frame_that_comes_twice_is_not_taken_twice() {
    let mut host = host_in_step();
    let mut out = Vec::new();
    frame::write_data(0, 0, true, b"once", &mut out);
    host.receive(&out).unwrap();
    assert_eq!(host.receive(&out), Err(ChannelError::OutOfStep));
    assert_eq!(drain(&mut host), [b"once".to_vec()]);
}

#[test]
fn a_peer_that_ignores_the_window_is_out_of_step() {
    let mut host = host_in_step();
    let mut refused = None;
    for sequence in 0..10_000 {
        let mut out = Vec::new();
        frame::write_data(sequence, 0, true, &[], &mut out);
        refused = refused.or(host.receive(&out).err());
        assert!(host.held() <= 300 << 10);
    }
    assert_eq!(refused, Some(ChannelError::OutOfStep));
}

#[test]
fn a_message_without_end_is_out_of_step() {
    let mut host = host_in_step();
    let mut refused = None;
    for sequence in 0..10 {
        let mut out = Vec::new();
        frame::write_data(sequence, 0, false, &[0; frame::CHUNK], &mut out);
        refused = refused.or(host.receive(&out).err());
    }
    assert_eq!(refused, Some(ChannelError::OutOfStep));
    assert!(host.held() <= TO_HOST_MESSAGE_MAX + (64 << 10));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_out_of_step() {
    let mut host = host_in_step();
    let mut out = Vec::new();
    frame::write_ack(1, &mut out);
    assert_eq!(host.receive(&out), Err(ChannelError::OutOfStep));
}

#[test]
fn the_bytes_of_a_frame_never_change() {
    let mut out = Vec::new();
    frame::write_data(1, 2, true, b"hi", &mut out);
    let mut expected = vec![0xb7, b'c', b'h', 0x1a, 3, 1, 0, 0, 2, 0, 0, 0];
    expected.extend_from_slice(&1u64.to_le_bytes());
    expected.extend_from_slice(&2u64.to_le_bytes());
    expected.extend_from_slice(&crc32fast::hash(&[&expected[4..], b"hi"].concat()).to_le_bytes());
    expected.extend_from_slice(b"hi");
    assert_eq!(out, expected);
    let mut decoder = Decoder::default();
    decoder.push(&out);
    let frame = Frame::Data { sequence: 1, taken: 2, last: true, payload: b"hi".to_vec() };
    assert_eq!(decoder.next(Mode::InStep), Ok(Some(frame)));
}

#[derive(Clone, Debug)]
enum Op {
    ToGuest(usize),
    ToHost(usize),
    Move(usize),
    Take,
    Cut((f64, f64), (f64, f64)),
}

fn op() -> impl Strategy<Value = Op> {
    let part = || (0.0..=1.0f64, 0.0..=1.0f64);
    prop_oneof![
        3 => prop_oneof![0..200usize, 30_000..100_000usize].prop_map(Op::ToGuest),
        3 => prop_oneof![0..200usize, 30_000..100_000usize].prop_map(Op::ToHost),
        6 => prop_oneof![1..100usize, 1000..100_000usize].prop_map(Op::Move),
        3 => Just(Op::Take),
        2 => (part(), part()).prop_map(|(a, b)| Op::Cut(a, b)),
    ]
}

/// A message that says which it is, so that order and identity show.
fn message(number: usize, length: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.extend((0..length).map(|i| (i * 31 + number * 7) as u8));
    payload
}

proptest! {
    #[test]
    fn messages_arrive_exactly_once_in_order_over_any_cuts(
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut wire = Wire::new();
        wire.reconnect();
        let (mut sent_guest, mut sent_host) = (Vec::new(), Vec::new());
        let (mut at_guest, mut at_host) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::ToGuest(length) => {
                    let payload = message(sent_guest.len(), length);
                    if wire.host.send(&payload).is_ok() {
                        sent_guest.push(payload);
                    }
                }
                Op::ToHost(length) => {
                    let payload = message(sent_host.len(), length);
                    if wire.guest.send(&payload).is_ok() {
                        sent_host.push(payload);
                    }
                }
                Op::Move(most) => wire.step(most),
                Op::Take => {
                    at_guest.extend(drain(&mut wire.guest));
                    at_host.extend(drain(&mut wire.host));
                }
                Op::Cut(to_guest, to_host) => wire.cut(to_guest, to_host),
            }
        }
        wire.cut((0.0, 0.5), (0.5, 1.0));
        finish(&mut wire, &mut at_guest, &mut at_host);
        prop_assert!(at_guest == sent_guest, "to the guest");
        prop_assert!(at_host == sent_host, "to the host");
        prop_assert!(wire.host.all_taken() && wire.guest.all_taken());
    }

    #[test]
    fn over_hosts_that_die_each_message_of_the_guest_arrives_and_order_holds(
        lives in prop::collection::vec(prop::collection::vec(op(), 1..20), 1..6),
    ) {
        let mut wire = Wire::new();
        let mut sent = Vec::new();
        let mut got = Vec::new();
        for life in lives {
            wire.host = Endpoint::host(1..=1);
            wire.reconnect();
            for op in life {
                match op {
                    Op::ToHost(length) => {
                        let payload = message(sent.len(), length);
                        if wire.guest.send(&payload).is_ok() {
                            sent.push(payload);
                        }
                    }
                    Op::ToGuest(length) => drop(wire.host.send(&vec![3; length])),
                    Op::Move(most) => wire.step(most),
                    Op::Take => {
                        drain(&mut wire.guest);
                        got.extend(drain(&mut wire.host));
                    }
                    Op::Cut(to_guest, to_host) => wire.cut(to_guest, to_host),
                }
            }
            let length = wire.to_host.len() / 2;
            wire.to_host.drain(..length);
        }
        wire.host = Endpoint::host(1..=1);
        wire.reconnect();
        finish(&mut wire, &mut Vec::new(), &mut got);
        // A repeat may go back to what no host had acknowledged, but never leaves a hole.
        let mut next = 0;
        for payload in got {
            let at = sent.iter().position(|one| *one == payload);
            let at = at.expect("only what was sent arrives");
            prop_assert!(at <= next, "message {next} was skipped");
            next = at + 1;
        }
        prop_assert_eq!(next, sent.len());
    }

    #[test]
    fn garbage_never_panics_and_never_fills_memory(
        pieces in prop::collection::vec(piece(), 1..60),
        host in any::<bool>(),
    ) {
        let mut endpoint = if host { Endpoint::host(1..=1) } else { Endpoint::guest(1..=1) };
        if host {
            endpoint.reconnected(NONCE);
        }
        for piece in pieces {
            let _any_verdict_will_do = endpoint.receive(&piece);
            let count = endpoint.outgoing().len();
            endpoint.written(count);
            prop_assert!(endpoint.held() <= (5 << 20) + piece.len());
        }
    }
}

const NONCE: u64 = 99;

/// Bytes that are nearly, or quite, what a peer would say.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![0..4u64, any::<u64>()];
    let frames = prop_oneof![
        (number(), number(), any::<bool>(), 0..40_000usize).prop_map(|(a, b, last, length)| {
            let mut out = Vec::new();
            frame::write_data(a, b, last, &vec![5; length.min(frame::CHUNK)], &mut out);
            out
        }),
        number().prop_map(|taken| {
            let mut out = Vec::new();
            frame::write_ack(taken, &mut out);
            out
        }),
        (number(), number(), number(), any::<u16>()).prop_map(
            |(incarnation, expected, taken, max)| {
                let mut out = Vec::new();
                let hello = frame::Hello {
                    nonce: NONCE,
                    incarnation,
                    expected,
                    taken,
                    protocol_min: 1,
                    protocol_max: max,
                };
                frame::write_hello(&hello, &mut out);
                out
            }
        ),
        (number(), number(), any::<bool>()).prop_map(|(expected, sends_from, fresh)| {
            let mut out = Vec::new();
            let reply = frame::HelloReply {
                nonce: NONCE,
                fresh,
                expected,
                sends_from,
                protocol_min: 1,
                protocol_max: 1,
            };
            frame::write_hello_reply(&reply, &mut out);
            out
        }),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    (frames, any::<prop::sample::Index>(), any::<u8>(), 0..4u8).prop_map(
        |(mut bytes, at, value, damage)| {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                match damage {
                    0 => bytes[at] = value,
                    1 => bytes.truncate(at),
                    _ => {}
                }
            }
            bytes
        },
    )
}
