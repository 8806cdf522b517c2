//! Arbitrary datagrams from a kernel: a dump ends, with consistent sums or with an error.
//!
//! The input: a byte for the request, then datagrams, each preceded by its length (two bytes, little endian,
//! the highest bit for a truncated one). The sequence numbers are filled in, since the fuzzer would not guess
//! them, except where a message's flags are odd.
#![no_main]

use std::io;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use timewait_exporter::domain::ports::PortRange;
use timewait_exporter::kernel::sock_diag::{Connect, Dumper, Transport};
use timewait_exporter_fuzz::assert_census;

const HEADER: usize = 16;

#[derive(Clone, Debug)]
struct Kernel(Vec<u8>);

struct Conversation {
    left: Vec<u8>,
    sequence: [u8; 4],
}

impl Connect for Kernel {
    fn connect(&mut self, _: Instant) -> io::Result<Box<dyn Transport>> {
        Ok(Box::new(Conversation {
            left: self.0.clone(),
            sequence: [0; 4],
        }))
    }
}

impl Transport for Conversation {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.sequence.copy_from_slice(&request[8..12]);
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.clear();
        let Some((length, rest)) = self.left.split_first_chunk::<2>() else {
            return Ok(0);
        };
        let length = u16::from_le_bytes(*length);
        let (kept, is_cut) = (usize::from(length & 0x7fff), length & 0x8000 != 0);
        let (datagram, rest) = rest.split_at(kept.min(rest.len()));
        buffer.extend(datagram);
        fill_in(buffer, self.sequence);
        self.left = rest.to_vec();
        Ok(buffer.len() + usize::from(is_cut))
    }
}

fn fill_in(mut messages: &mut [u8], sequence: [u8; 4]) {
    while messages.len() >= HEADER {
        let length = u32::from_ne_bytes([messages[0], messages[1], messages[2], messages[3]]);
        if messages[6] & 1 == 0 {
            messages[8..12].copy_from_slice(&sequence);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(HEADER);
        let next = length.saturating_add(3) & !3;
        messages = messages.get_mut(next..).unwrap_or_default();
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((asked, datagrams)) = input.split_first() else {
        return;
    };
    let mut dumper = Dumper::new(Box::new(Kernel(datagrams.to_vec())));
    // Never reached: an input ends.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut dump = dumper.open(deadline).expect("this kernel opens");
    let (mut owners, mut sockets, mut live) = (Vec::new(), Vec::new(), 0);
    let result = match asked % 5 {
        0 => dump.owners(|owner| owners.push(owner)),
        1 => dump.listeners(|owner| owners.push(owner)),
        2 => dump.sockets(|socket| sockets.push(socket)),
        3 => {
            let range = PortRange::new(32_768, 60_999).expect("a range");
            dump.sockets_of_range(range, |socket| sockets.push(socket))
        }
        _ => dump.live_sockets(&[], |_| live += 1),
    };
    let read = u64::try_from(owners.len() + sockets.len() + live).expect("a number");
    match result {
        Ok(count) => assert_eq!(read, count.records - count.unknown),
        // Every error has a text.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // Most inputs contain nothing to count.
    if !sockets.is_empty() || !owners.is_empty() {
        assert_census(&owners, &sockets);
    }
});
