//! One thread that may block, and the queue of those who wait for what it finds out.
//!
//! Requests that come in while the thread is busy wait for its *next* run and share it: each gets a
//! result whose making began after the request came in, and however many ask, at most one run is
//! under way and one ahead. Knows nothing of what the job does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Instant;
use std::{io, thread};

use tokio::sync::oneshot;
use tracing::error;

/// A limit on memory (RLIMIT_DATA) counts all of it.
const STACK_BYTES: usize = 512 * 1024;

/// A thread of its own that runs one job, again and again, whenever someone asks.
///
/// **Invariant:** between requests the thread sleeps without a timer.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    requests: mpsc::Sender<Waiter<T>>,
}

/// Until when someone waits, and for what.
type Waiter<T> = (Instant, oneshot::Sender<T>);

impl<T: Clone + Send + 'static> Lane<T> {
    /// Starts the thread. The job is given the time by which it must be done: the latest that
    /// anyone who shares the run will wait for (`Instant::max`), or the first (`Instant::min`). The thread ends when
    /// the lane is dropped.
    pub(crate) fn start(
        name: &'static str,
        shared: fn(Instant, Instant) -> Instant,
        mut job: impl FnMut(Instant) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, queue) = mpsc::channel::<Waiter<T>>();
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                while let Ok(first) = queue.recv() {
                    let mut waiters = vec![first];
                    waiters.extend(queue.try_iter());
                    // Who has gone away or given up needs no dump.
                    waiters.retain(|(_, answer)| !answer.is_closed());
                    let deadlines = waiters.iter().map(|(deadline, _)| *deadline);
                    let Some(deadline) = deadlines.reduce(shared) else {
                        continue;
                    };
                    // A panic is a defect, but it must not take every later scrape along.
                    let Ok(result) = catch_unwind(AssertUnwindSafe(|| job(deadline))) else {
                        error!(
                            collector = name,
                            "collector panicked. This is a bug: please report it"
                        );
                        continue;
                    };
                    for (_, answer) in waiters {
                        let _gone = answer.send(result.clone());
                    }
                }
            })?;
        Ok(Self { requests })
    }

    /// Asks for a result whose making begins after this call. The receiver fails if the job
    /// panicked.
    pub(crate) fn request(&self, deadline: Instant) -> oneshot::Receiver<T> {
        let (answer, receiver) = oneshot::channel();
        // A closed queue drops the sender with the error, and the receiver learns of it.
        let _closed = self.requests.send((deadline, answer));
        receiver
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::{Arc, Barrier};
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    /// A job that waits at a barrier on entry and at another on its way out, and returns which run it was, with what
    /// deadline.
    fn gated_job() -> (
        impl FnMut(Instant) -> (usize, Instant) + Send + 'static,
        Arc<Barrier>,
        Arc<Barrier>,
    ) {
        let (enter, leave) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (inner_enter, inner_leave) = (Arc::clone(&enter), Arc::clone(&leave));
        let mut runs = 0;
        let job = move |deadline| {
            inner_enter.wait();
            inner_leave.wait();
            runs += 1;
            (runs, deadline)
        };
        (job, enter, leave)
    }

    type GatedLane = Lane<(usize, Instant)>;

    fn gated() -> (GatedLane, Arc<Barrier>, Arc<Barrier>) {
        let (job, enter, leave) = gated_job();
        (
            Lane::start("test", Instant::max, job).unwrap(),
            enter,
            leave,
        )
    }

    #[test]
    fn requests_made_during_a_run_share_the_next_one() {
        let (lane, enter, leave) = gated();
        let first = lane.request(soon());
        enter.wait();
        let late: Vec<_> = (0..40).map(|_| lane.request(soon())).collect();
        leave.wait();
        enter.wait();
        leave.wait();
        assert_eq!(first.blocking_recv().unwrap().0, 1);
        for receiver in late {
            assert_eq!(receiver.blocking_recv().unwrap().0, 2);
        }
    }

    #[test]
    fn a_job_does_not_run_for_dropped_requests() {
        let (lane, enter, leave) = gated();
        let first = lane.request(soon());
        enter.wait();
        drop(lane.request(soon()));
        leave.wait();
        assert_eq!(first.blocking_recv().unwrap().0, 1);
        let next = lane.request(soon());
        enter.wait();
        leave.wait();
        assert_eq!(next.blocking_recv().unwrap().0, 2);
    }

    /// The deadline of a run that requests with these deadlines share.
    fn shared(
        lane: &GatedLane,
        enter: &Barrier,
        leave: &Barrier,
        deadlines: [Instant; 2],
    ) -> Instant {
        let _first = lane.request(soon());
        enter.wait();
        let [one, other] = deadlines.map(|deadline| lane.request(deadline));
        leave.wait();
        enter.wait();
        leave.wait();
        let deadline = one.blocking_recv().unwrap();
        assert_eq!(other.blocking_recv().unwrap(), deadline);
        deadline.1
    }

    #[test]
    fn a_shared_run_has_the_latest_deadline_or_the_first_one() {
        let (early, late) = (soon(), soon() + Duration::from_secs(5));
        let (lane, enter, leave) = gated();
        assert_eq!(shared(&lane, &enter, &leave, [early, late]), late);
        let (job, enter, leave) = gated_job();
        let lane = Lane::start("test", Instant::min, job).unwrap();
        assert_eq!(shared(&lane, &enter, &leave, [late, early]), early);
    }

    #[test]
    fn a_job_that_panics_fails_its_request_and_serves_the_next() {
        let mut runs = 0;
        let lane = Lane::start("test", Instant::max, move |_| {
            runs += 1;
            assert!(runs != 1, "the first run fails");
            runs
        })
        .unwrap();
        assert!(lane.request(soon()).blocking_recv().is_err());
        assert_eq!(lane.request(soon()).blocking_recv().unwrap(), 2);
    }
}
