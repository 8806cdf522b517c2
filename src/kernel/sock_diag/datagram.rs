//! Takes a received datagram apart into netlink messages. Pure: nothing is copied or allocated.

use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN};
use thiserror::Error;
use zerocopy::byteorder::native_endian::{I32, U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Types from here on belong to the protocol; those before are netlink's own.
const NLMSG_MIN_TYPE: u16 = 0x10;

/// `struct nlmsghdr`, 16 bytes.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    length: U32,
    message_type: U16,
    flags: U16,
    sequence: U32,
    port: U32,
}

const HEADER_LENGTH: usize = size_of::<Header>();
/// `NLMSG_ALIGNTO`: every message but the last is padded to a multiple of it.
const ALIGNMENT: usize = 4;

/// One netlink message. An errno is a positive number, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A record of the protocol: its type, which answers the request's, and what follows the header.
    Record(u16, &'a [u8]),
    /// The dump has ended; the errno is 0 if it ended well.
    Done(i32),
    /// The request was refused.
    Refused(i32),
    /// The kernel lost data.
    Overrun,
    /// Nothing.
    Noop,
}

/// What is wrong with a datagram. The first number is the message's offset, in bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "their messages say it")]
pub enum DatagramError {
    #[error("{1} bytes are left at offset {0}, a netlink header has 16")]
    ShortHeader(usize, usize),
    /// Less than its own header, or more than the datagram has left.
    #[error("the message at offset {0} says it has {1} bytes, {2} are there")]
    WrongLength(usize, u32, usize),
    /// An answer to another request.
    #[error("the message at offset {0} answers request {1}, not {2}")]
    WrongSequence(usize, u32, u32),
    #[error("the message at offset {0} of type {1} has no valid errno")]
    NoErrno(usize, u16),
    #[error("the message at offset {0} has the unknown control type {1}")]
    UnknownControl(usize, u16),
}

/// The messages of one datagram. Ends after the first error.
pub struct Messages<'a> {
    bytes: &'a [u8],
    offset: usize,
    sequence: u32,
    /// Whether one of the messages so far was marked with `NLM_F_DUMP_INTR`: the table changed so that the dump may
    /// have missed entries.
    pub(super) interrupted: bool,
}

impl<'a> Messages<'a> {
    /// Messages must all answer the request with this sequence number.
    pub const fn new(datagram: &'a [u8], sequence: u32) -> Self {
        Self {
            bytes: datagram,
            offset: 0,
            sequence,
            interrupted: false,
        }
    }

    /// The next message; after an error nothing is left.
    #[inline]
    fn take(&mut self) -> Result<Message<'a>, DatagramError> {
        let (bytes, offset) = (std::mem::take(&mut self.bytes), self.offset);
        let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
            return Err(DatagramError::ShortHeader(offset, bytes.len()));
        };
        let length = header.length.get();
        let end = usize::try_from(length).ok();
        let Some(payload) = end.and_then(|end| bytes.get(HEADER_LENGTH..end)) else {
            return Err(DatagramError::WrongLength(offset, length, bytes.len()));
        };
        let got = header.sequence.get();
        if got != self.sequence {
            return Err(DatagramError::WrongSequence(offset, got, self.sequence));
        }
        self.interrupted |= header.flags.get() & NLM_F_DUMP_INTR != 0;
        // The last message need not be padded.
        let padded = (HEADER_LENGTH + payload.len()).next_multiple_of(ALIGNMENT);
        self.bytes = bytes.get(padded..).unwrap_or_default();
        self.offset += padded;
        let message_type = header.message_type.get();
        let errno = || errno(payload).ok_or(DatagramError::NoErrno(offset, message_type));
        match message_type {
            NLMSG_MIN_TYPE.. => Ok(Message::Record(message_type, payload)),
            NLMSG_DONE => errno().map(Message::Done),
            NLMSG_ERROR => errno().map(Message::Refused),
            NLMSG_OVERRUN => Ok(Message::Overrun),
            NLMSG_NOOP => Ok(Message::Noop),
            _ => Err(DatagramError::UnknownControl(offset, message_type)),
        }
    }
}

/// A negative number, or 0.
fn errno(payload: &[u8]) -> Option<i32> {
    let (code, _) = I32::ref_from_prefix(payload).ok()?;
    code.get().checked_neg().filter(|errno| *errno >= 0)
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DatagramError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        (!self.bytes.is_empty()).then(|| self.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEQUENCE: u32 = 7;

    fn message(message_type: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_LENGTH + payload.len()).unwrap_or(u32::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(message_type.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    fn first(bytes: &[u8]) -> Option<Result<Message<'_>, DatagramError>> {
        Messages::new(bytes, SEQUENCE).next()
    }

    #[test]
    fn messages_are_returned_one_by_one_without_padding() {
        let mut datagram = message(18, 2, SEQUENCE, b"abcde");
        datagram.extend([0; 3]);
        datagram.extend(message(20, 2, SEQUENCE, b"f"));
        let messages: Vec<_> = Messages::new(&datagram, SEQUENCE).collect();
        let record = |message_type, payload| Ok(Message::Record(message_type, payload));
        assert_eq!(messages, [record(18, &b"abcde"[..]), record(20, &b"f"[..])]);
    }

    #[test]
    fn the_end_and_a_refusal_have_their_errno() {
        let code = |code: i32| code.to_ne_bytes();
        let done = message(3, 2, SEQUENCE, &code(0));
        assert_eq!(first(&done), Some(Ok(Message::Done(0))));
        let done = message(3, 2, SEQUENCE, &code(-12));
        assert_eq!(first(&done), Some(Ok(Message::Done(12))));
        let busy = message(2, 0, SEQUENCE, &code(-16));
        assert_eq!(first(&busy), Some(Ok(Message::Refused(16))));
    }

    #[test]
    fn an_errno_that_is_missing_or_none_is_an_error() {
        let wrong = |message_type| Some(Err(DatagramError::NoErrno(0, message_type)));
        assert_eq!(first(&message(3, 2, SEQUENCE, &[0; 3])), wrong(3));
        assert_eq!(first(&message(2, 2, SEQUENCE, &[])), wrong(2));
        assert_eq!(
            first(&message(2, 2, SEQUENCE, &5_i32.to_ne_bytes())),
            wrong(2)
        );
        assert_eq!(
            first(&message(3, 2, SEQUENCE, &i32::MIN.to_ne_bytes())),
            wrong(3)
        );
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let mut long = message(18, 2, SEQUENCE, b"abcd");
        long.truncate(19);
        let error = DatagramError::WrongLength(0, 20, 19);
        assert_eq!(first(&long), Some(Err(error)));
        let mut short = message(18, 2, SEQUENCE, b"abcd");
        short.splice(..4, 15_u32.to_ne_bytes());
        let error = DatagramError::WrongLength(0, 15, 20);
        assert_eq!(first(&short), Some(Err(error)));
        let mut tail = message(18, 2, SEQUENCE, b"abcd");
        tail.extend([0; 15]);
        let messages: Vec<_> = Messages::new(&tail, SEQUENCE).collect();
        assert_eq!(
            messages.last(),
            Some(&Err(DatagramError::ShortHeader(20, 15)))
        );
    }

    #[test]
    fn an_answer_to_another_request_is_an_error_and_ends_the_datagram() {
        let mut datagram = message(18, 2, SEQUENCE + 1, b"abcd");
        datagram.extend(message(3, 2, SEQUENCE, &[0; 4]));
        let messages: Vec<_> = Messages::new(&datagram, SEQUENCE).collect();
        assert_eq!(messages, [Err(DatagramError::WrongSequence(0, 8, 7))]);
    }

    #[test]
    fn a_dump_that_the_kernel_calls_inconsistent_is_marked() {
        for (flags, is_interrupted) in [(2, false), (2 | 16, true)] {
            let bytes = message(3, flags, SEQUENCE, &[0; 4]);
            let mut messages = Messages::new(&bytes, SEQUENCE);
            assert_eq!(messages.next(), Some(Ok(Message::Done(0))));
            assert_eq!(messages.interrupted, is_interrupted);
        }
    }

    #[test]
    fn control_messages_are_known_or_errors() {
        assert_eq!(
            first(&message(1, 0, SEQUENCE, &[])),
            Some(Ok(Message::Noop))
        );
        assert_eq!(
            first(&message(4, 0, SEQUENCE, &[])),
            Some(Ok(Message::Overrun))
        );
        let unknown = DatagramError::UnknownControl(0, 9);
        assert_eq!(first(&message(9, 0, SEQUENCE, &[])), Some(Err(unknown)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_panic_and_terminate(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert!(Messages::new(&bytes, 0).count() <= bytes.len() / HEADER_LENGTH + 1);
        }

        #[test]
        fn any_small_lengths_are_split_without_panic_and_terminate(
            words in prop::collection::vec(0_u32..40, 0..80),
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert!(Messages::new(&bytes, 0).count() <= bytes.len() / HEADER_LENGTH + 1);
        }
    }
}
