//! A fake kernel for sock_diag conversations, which follows a script.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use timewait_exporter::kernel::sock_diag::{Connect, Transport};

/// What the fake does when the program receives.
#[derive(Clone, Debug)]
pub enum Step {
    /// A datagram. Its sequence numbers are filled in from the request, unless it is `Raw`.
    Datagram(Vec<Message>),
    /// These bytes, as they are.
    Raw(Vec<u8>),
    /// A datagram of which only this many bytes fit the buffer.
    Cut(Vec<Message>, usize),
    /// A datagram in which these bytes are replaced from an offset on.
    Patched(Vec<Message>, usize, Vec<u8>),
    /// An errno.
    Error(i32),
    /// The same datagram endlessly.
    Forever(Vec<Message>),
}

/// One netlink message.
#[derive(Clone, Debug)]
pub struct Message {
    pub message_type: u16,
    pub flags: u16,
    /// Added to the request's sequence number.
    pub sequence_offset: u32,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn new(message_type: u16, payload: Vec<u8>) -> Self {
        Self {
            message_type,
            flags: 2,
            sequence_offset: 0,
            payload,
        }
    }

    pub fn record(payload: Vec<u8>) -> Self {
        Self::new(18, payload)
    }

    pub fn done(errno: i32) -> Self {
        Self::new(3, (-errno).to_ne_bytes().to_vec())
    }

    pub fn refused(errno: i32) -> Self {
        Self::new(2, (-errno).to_ne_bytes().to_vec())
    }

    fn bytes(&self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(16 + self.payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(self.message_type.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.wrapping_add(self.sequence_offset).to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

/// A `struct inet_diag_msg` as Linux lays it out, 72 bytes.
pub fn record(
    state: u8,
    src: (&str, u16),
    dst: (&str, u16),
    timer: u8,
    expires_ms: u32,
) -> Vec<u8> {
    let family = if src.0.contains(':') { 10 } else { 2 };
    let mut bytes = vec![family, state, timer, 0];
    bytes.extend(src.1.to_be_bytes());
    bytes.extend(dst.1.to_be_bytes());
    for address in [src.0, dst.0] {
        let mut octets = match address.parse().unwrap() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets.resize(16, 0);
        bytes.extend(octets);
    }
    bytes.extend([0; 12]);
    bytes.extend(expires_ms.to_ne_bytes());
    bytes.extend([0; 16]);
    bytes
}

/// A kernel that follows a script: one list of steps for each conversation, all its dumps in a row.
/// Clones share the script and the recorded requests.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    conversations: VecDeque<Vec<Step>>,
    open_error: Option<i32>,
    opened: usize,
    requests: Vec<Vec<u8>>,
}

impl FakeKernel {
    pub fn new(conversations: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let fake = Self::default();
        fake.state.lock().unwrap().conversations = conversations.into_iter().collect();
        fake
    }

    /// A kernel in which no netlink socket can be opened.
    pub fn closed(errno: i32) -> Self {
        let fake = Self::default();
        fake.state.lock().unwrap().open_error = Some(errno);
        fake
    }

    /// How many conversations were opened.
    pub fn opened(&self) -> usize {
        self.state.lock().unwrap().opened
    }

    /// Everything that was sent.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl Connect for FakeKernel {
    fn connect(&mut self, _deadline: Instant) -> io::Result<Box<dyn Transport>> {
        let mut state = self.state.lock().unwrap();
        if let Some(errno) = state.open_error {
            return Err(io::Error::from_raw_os_error(errno));
        }
        state.opened += 1;
        let steps = state
            .conversations
            .pop_front()
            .expect("the script has another conversation");
        Ok(Box::new(FakeTransport {
            state: Arc::clone(&self.state),
            steps: steps.into(),
            sequence: 0,
        }))
    }
}

struct FakeTransport {
    state: Arc<Mutex<State>>,
    steps: VecDeque<Step>,
    sequence: u32,
}

impl Transport for FakeTransport {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.sequence = u32::from_ne_bytes(request[8..12].try_into().unwrap());
        self.state.lock().unwrap().requests.push(request.to_vec());
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.clear();
        let join = |messages: &[Message]| -> Vec<u8> {
            messages
                .iter()
                .flat_map(|message| message.bytes(self.sequence))
                .collect()
        };
        let (bytes, kept) = match self.steps.pop_front() {
            // The end of the conversation: recv() returns 0.
            None => return Ok(0),
            Some(Step::Error(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Step::Datagram(messages)) => (join(&messages), usize::MAX),
            Some(Step::Raw(bytes)) => (bytes, usize::MAX),
            Some(Step::Patched(messages, at, patch)) => {
                let mut bytes = join(&messages);
                bytes[at..at + patch.len()].copy_from_slice(&patch);
                (bytes, usize::MAX)
            }
            Some(Step::Cut(messages, kept)) => (join(&messages), kept),
            Some(Step::Forever(messages)) => {
                let bytes = join(&messages);
                self.steps.push_front(Step::Forever(messages));
                (bytes, usize::MAX)
            }
        };
        buffer.extend(bytes.iter().take(kept));
        Ok(bytes.len())
    }
}
