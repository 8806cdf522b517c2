//! The capabilities that reading other namespaces requires.

use rustix::thread::{CapabilitySet, capabilities};

/// The names of the capabilities that the calling thread lacks: CAP_SYS_ADMIN to enter a
/// namespace (setns(2)), CAP_SYS_PTRACE too to find and enter those of other processes
/// (`/proc/PID/ns/net`, ptrace(2)). None where the kernel does not say what the thread has.
pub(crate) fn missing_capabilities(of_processes: bool) -> Vec<&'static str> {
    let Ok(sets) = capabilities(None) else {
        return Vec::new();
    };
    let mut needed = vec![(CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN")];
    if of_processes {
        needed.push((CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"));
    }
    needed.retain(|(capability, _)| !sets.effective.contains(*capability));
    needed.into_iter().map(|(_, name)| name).collect()
}
