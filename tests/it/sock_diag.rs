//! Dumps from a fake kernel that follows a script: what no real kernel does on demand.

use std::time::{Duration, Instant};

use timewait_exporter::domain::socket::Socket;
use timewait_exporter::kernel::sock_diag::{DumpCount, DumpError, Dumper};

use crate::support::fake_kernel::{FakeKernel, Message, Step, record};

fn time_wait(port: u16) -> Message {
    Message::record(record(
        6,
        ("192.0.2.1", port),
        ("192.0.2.2", 443),
        3,
        30_000,
    ))
}

fn dump(steps: Vec<Step>) -> (Result<DumpCount, DumpError>, Vec<Socket>) {
    dump_by(steps, Instant::now() + Duration::from_secs(60))
}

fn dump_by(steps: Vec<Step>, deadline: Instant) -> (Result<DumpCount, DumpError>, Vec<Socket>) {
    let mut dumper = Dumper::new(Box::new(FakeKernel::new([steps])));
    let mut sockets = Vec::new();
    let result = dumper
        .open(deadline)
        .unwrap()
        .sockets(|socket| sockets.push(socket));
    (result, sockets)
}

#[test]
fn records_of_several_datagrams_are_read_in_order_up_to_done() {
    let (result, sockets) = dump(vec![
        Step::Datagram(vec![time_wait(40_000), time_wait(40_001)]),
        Step::Datagram(vec![time_wait(40_002)]),
        Step::Datagram(vec![Message::done(0)]),
    ]);
    assert_eq!(result.unwrap().records, 3);
    let ports: Vec<u16> = sockets.iter().map(|socket| socket.src_port).collect();
    assert_eq!(ports, [40_000, 40_001, 40_002]);
}

#[test]
fn a_signal_interrupts_no_dump() {
    let interrupted = || Step::Error(4);
    let (result, sockets) = dump(vec![
        interrupted(),
        Step::Datagram(vec![time_wait(40_000)]),
        interrupted(),
        interrupted(),
        Step::Datagram(vec![time_wait(40_001), Message::done(0)]),
    ]);
    assert_eq!((result.unwrap().records, sockets.len()), (2, 2));
}

#[test]
fn what_follows_done_is_not_read() {
    let (result, sockets) = dump(vec![Step::Datagram(vec![
        Message::done(0),
        time_wait(40_000),
    ])]);
    assert_eq!((result.unwrap().records, sockets.len()), (0, 0));
}

#[test]
fn a_datagram_that_was_cut_is_an_error() {
    let (result, _) = dump(vec![Step::Cut(
        vec![time_wait(40_000), time_wait(40_001)],
        100,
    )]);
    let error = result.unwrap_err();
    assert!(matches!(error, DumpError::Truncated(176, 100)), "{error}");
}

#[test]
fn an_answer_to_another_request_is_an_error() {
    let stale = Message {
        sequence_offset: 1,
        ..time_wait(40_000)
    };
    let (result, sockets) = dump(vec![Step::Datagram(vec![stale, Message::done(0)])]);
    assert!(matches!(result, Err(DumpError::Datagram(_, 0))));
    assert!(sockets.is_empty());
}

#[test]
fn a_dump_without_done_is_an_error_with_the_number_of_records() {
    let (result, _) = dump(vec![Step::Datagram(vec![time_wait(40_000)])]);
    assert!(matches!(result, Err(DumpError::EndedEarly(1))));
}

#[test]
fn a_dump_that_ends_with_an_errno_is_an_error() {
    let (result, _) = dump(vec![Step::Datagram(vec![
        time_wait(40_000),
        Message::done(12),
    ])]);
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the sock_diag dump failed after 1 records: Cannot allocate memory (os error 12)"
    );
    assert!(error.is_passing() && !error.is_unusable());
    // In the middle of a dump sock_diag is available, whatever the error is.
    let (result, _) = dump(vec![Step::Datagram(vec![
        time_wait(40_000),
        Message::done(2),
    ])]);
    assert!(!result.unwrap_err().is_unusable());
}

#[test]
fn refusals_are_temporary_or_permanent() {
    for (errno, passing, unusable) in [
        (16, true, false),
        (2, false, true),
        (1, false, true),
        (95, false, true),
        (5, false, false),
    ] {
        let (result, _) = dump(vec![Step::Datagram(vec![Message::refused(errno)])]);
        let error = result.unwrap_err();
        assert!(matches!(error, DumpError::Refused(_)), "{error}");
        assert_eq!(
            (error.is_passing(), error.is_unusable()),
            (passing, unusable),
            "{error}"
        );
    }
}

#[test]
fn any_errno_is_reported() {
    for errno in [0, 4_096, 100_000, i32::MAX] {
        let (result, _) = dump(vec![Step::Datagram(vec![Message::refused(errno)])]);
        assert!(matches!(result, Err(DumpError::Refused(_))), "{errno}");
        if errno != 0 {
            let (result, _) = dump(vec![Step::Datagram(vec![Message::done(errno)])]);
            assert!(matches!(result, Err(DumpError::Failed(..))), "{errno}");
        }
    }
}

#[test]
fn lost_data_is_a_temporary_error() {
    for step in [
        Step::Error(105),
        Step::Datagram(vec![Message::new(4, vec![])]),
    ] {
        let error = dump(vec![Step::Datagram(vec![time_wait(40_000)]), step])
            .0
            .unwrap_err();
        assert!(matches!(error, DumpError::Overrun(1)), "{error}");
        assert!(error.is_passing());
    }
}

#[test]
fn an_inconsistent_dump_is_marked_and_its_records_are_counted() {
    let marked = Message {
        flags: 2 | 16,
        ..time_wait(40_000)
    };
    let (count, sockets) = dump(vec![Step::Datagram(vec![marked, Message::done(0)])]);
    let count = count.unwrap();
    assert!(count.interrupted && count.records == 1 && sockets.len() == 1);
}

#[test]
fn a_timeout_of_receive_is_the_deadline() {
    let (result, _) = dump(vec![
        Step::Datagram(vec![time_wait(40_000)]),
        Step::Error(11),
    ]);
    assert!(matches!(result, Err(DumpError::Deadline(1))));
}

#[test]
fn a_dump_that_never_ends_ends_at_the_deadline() {
    let steps = vec![Step::Forever(vec![time_wait(40_000)])];
    let (result, _) = dump_by(steps, Instant::now() + Duration::from_millis(50));
    assert!(matches!(result, Err(DumpError::Deadline(1..))));
}

#[test]
fn short_records_are_errors_and_long_ones_are_read() {
    let mut short = time_wait(40_000);
    short.payload.truncate(71);
    let error = dump(vec![Step::Datagram(vec![time_wait(1), short])])
        .0
        .unwrap_err();
    assert!(matches!(error, DumpError::ShortRecord(71, 2)), "{error}");
    let mut long = time_wait(40_000);
    long.payload.extend([0xff; 1_000]);
    let (result, sockets) = dump(vec![Step::Datagram(vec![long, Message::done(0)])]);
    assert_eq!((result.unwrap().records, sockets.len()), (1, 1));
}

#[test]
fn unknown_states_and_families_are_counted_and_skipped() {
    let unknown = Message::record(record(77, ("192.0.2.1", 1), ("192.0.2.2", 2), 0, 0));
    let steps = vec![Step::Datagram(vec![
        unknown,
        time_wait(40_000),
        Message::done(0),
    ])];
    let (result, sockets) = dump(steps);
    let count = DumpCount {
        records: 2,
        unknown: 1,
        last_unknown: Some((2, 77)),
        interrupted: false,
    };
    assert_eq!((result.unwrap(), sockets.len()), (count, 1));
}

#[test]
fn a_record_of_an_unknown_type_is_an_error() {
    let stranger = Message::new(99, vec![0; 72]);
    let error = dump(vec![Step::Datagram(vec![stranger])]).0.unwrap_err();
    assert!(matches!(error, DumpError::UnknownType(99, _)), "{error}");
}

#[test]
fn noop_messages_are_skipped_and_junk_is_an_error() {
    let noop = Message::new(1, vec![]);
    let (result, sockets) = dump(vec![Step::Datagram(vec![
        noop,
        time_wait(1),
        Message::done(0),
    ])]);
    assert_eq!((result.unwrap().records, sockets.len()), (1, 1));
    let error = dump(vec![Step::Raw(vec![0xff; 40])]).0.unwrap_err();
    assert!(matches!(error, DumpError::Datagram(..)), "{error}");
}

#[test]
fn one_conversation_contains_several_dumps_with_different_sequence_numbers() {
    let listener = Message::record(record(10, ("0.0.0.0", 80), ("0.0.0.0", 0), 0, 0));
    let fake = FakeKernel::new([vec![
        Step::Datagram(vec![listener, Message::done(0)]),
        Step::Datagram(vec![time_wait(40_000), Message::done(0)]),
    ]]);
    let mut dumper = Dumper::new(Box::new(fake.clone()));
    let mut dump = dumper
        .open(Instant::now() + Duration::from_secs(9))
        .unwrap();
    let mut owners = Vec::new();
    assert_eq!(dump.owners(|owner| owners.push(owner)).unwrap().records, 1);
    assert_eq!(dump.sockets(|_| ()).unwrap().records, 1);
    assert!(
        owners
            .iter()
            .all(|owner| owner.listening && owner.port == 80)
    );
    let sequences: Vec<Vec<u8>> = fake
        .requests()
        .iter()
        .map(|sent| sent[8..12].to_vec())
        .collect();
    assert_ne!(sequences[0], sequences[1]);
    assert_eq!(fake.opened(), 1);
}
