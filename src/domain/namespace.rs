//! The other network namespaces of a host, and which of them are exported.
//!
//! Knows no system call: what was found and read comes in, and is only named, ordered and bounded here.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::container::ContainerIdentity;
use super::snapshot::{Outcome, Snapshot};
use super::text::misleads;
use super::top::Top;

/// A network namespace and its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceIdentity {
    /// What it is called everywhere: its name, or its inode number where it has none.
    pub label: String,
    /// The number of its inode, as `stat -L /proc/PID/ns/net` and lsns(8) show it.
    pub inode: u64,
    /// A process whose network namespace it is; `None` where none was found.
    pub pid: Option<u32>,
    /// That process' name, `/proc/PID/comm`.
    pub comm: Option<String>,
    /// The container that this process is in.
    pub container: ContainerIdentity,
    /// A file through which the exporter can enter it.
    pub entrance: Option<PathBuf>,
    /// The same for somebody on the host, as nsenter(1) takes it: a container sees the host's files elsewhere.
    pub entrance_on_host: Option<PathBuf>,
}

impl NamespaceIdentity {
    /// What to write before a command so that it is run in this namespace, as root.
    pub(crate) fn command_prefix(&self) -> String {
        let entrance = self.entrance_on_host.as_deref();
        let entrance = entrance.unwrap_or(Path::new("FILE"));
        format!("nsenter --net={}", quoted(entrance.as_os_str().as_bytes()))
    }

    /// The owner, in a few words; empty where nothing is known.
    pub fn resident(&self) -> String {
        let comm = self.comm.as_deref().unwrap_or("process");
        let process = self.pid.map(|pid| format!("{comm} (pid {pid})"));
        let id = self.container.container_id.as_ref();
        let container = id.map(|id| format!("container {id:.12}"));
        let uid = self.container.pod_uid.as_ref();
        let pod = uid.map(|uid| format!("pod {uid}"));
        let words = [process, container, pod].into_iter().flatten();
        words.collect::<Vec<_>>().join(", ")
    }
}

/// A file's name as a shell takes it. What a terminal would obey or could not show is written in digits, for
/// the printf of every shell: `$'...'` is none of POSIX, and dash takes it for a name.
fn quoted(name: &[u8]) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    match std::str::from_utf8(name) {
        Ok(text) if name.iter().all(is_plain) => text.to_owned(),
        Ok(text) if !text.contains(misleads) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let typed = name.iter().map(|byte| match byte {
                byte if is_plain(byte) => char::from(*byte).to_string(),
                byte => format!("\\0{byte:03o}"),
            });
            format!("\"$(printf %b '{}')\"", typed.collect::<String>())
        }
    }
}

/// What was read in one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceSnapshot {
    /// Which one.
    pub identity: NamespaceIdentity,
    /// What was read. What is of the whole host is with the exporter's namespace alone.
    pub snapshot: Snapshot,
    /// How old its socket metrics are: zero if they were read for this scrape; `None` where there are none.
    pub age: Option<Duration>,
}

/// By what namespaces are ranked: their worst ratio, but 1 where no port is usable. None is in use there, and yet
/// every connect() fails.
pub(crate) fn rank(snapshot: &Snapshot) -> Option<f64> {
    match snapshot.ports()?.usable {
        0 => Some(1.0),
        _ => snapshot.worst_ratio(),
    }
}

/// What was read in the namespaces other than the exporter's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespaces {
    /// Those that are exported, by their labels. One that was not read by the deadline is among them,
    /// with collectors that had no success.
    pub exported: Vec<NamespaceSnapshot>,
    /// Those found that could not be entered. All processes whose namespace cannot be determined count as one.
    pub unreadable: u64,
    /// Those found and readable that are not exported, since there are more than may be.
    pub left_out: u64,
    /// Those asked for by name that are not there.
    pub absent: u64,
    /// Whether the names could not be listed, so that none is exported that is found by its name alone.
    pub has_unlisted_names: bool,
}

/// Everything one scrape found out about a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostSnapshot {
    /// The exporter's own network namespace.
    pub own: Snapshot,
    /// The others; `None` where they are not read.
    pub namespaces: Option<Arc<Outcome<Namespaces>>>,
}

impl HostSnapshot {
    /// The other namespaces that are exported.
    pub fn others(&self) -> impl Iterator<Item = &NamespaceSnapshot> {
        let found = self.namespaces.iter().flat_map(|outcome| &outcome.value);
        found.flat_map(|found| &found.exported)
    }
}

#[cfg(test)]
impl From<Snapshot> for HostSnapshot {
    fn from(own: Snapshot) -> Self {
        Self {
            own,
            namespaces: None,
        }
    }
}

/// The label of each namespace, given its inode number and its names: the first name in the order of the
/// alphabet, the inode number where there is none.
///
/// **Invariant:** no label is given twice. A name that is another one's inode number is not used.
pub fn labels<'a>(found: impl Iterator<Item = (u64, &'a [String])> + Clone) -> Vec<String> {
    let mut taken: HashSet<String> = found.clone().map(|(inode, _)| inode.to_string()).collect();
    found
        .map(|(inode, names)| {
            let free = names.iter().filter(|name| !taken.contains(*name));
            let label = free.min().cloned().unwrap_or_else(|| inode.to_string());
            taken.insert(label.clone());
            label
        })
        .collect()
}

/// Which of the namespaces are exported if at most `max` may be: those with the worst [`rank`], of equals
/// those whose labels come first. The result has one answer for each.
pub(crate) fn keep_worst(ranked: &[(Option<f64>, &str)], max: usize) -> Vec<bool> {
    let mut top = Top::new(max);
    for (index, (ratio, label)) in ranked.iter().enumerate() {
        // One that was never read comes before one known to have no destination. The bits of numbers
        // that are not negative have their order.
        let rank = ratio.unwrap_or(f64::MIN_POSITIVE).to_bits();
        top.add((label, index), rank);
    }
    let kept: HashSet<usize> = top.into_sorted_keys().map(|(_, index)| index).collect();
    let indices = 0..ranked.len();
    indices.map(|index| kept.contains(&index)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(found: &[(u64, &[&str])]) -> Vec<String> {
        let found: Vec<(u64, Vec<String>)> = found
            .iter()
            .map(|(inode, names)| (*inode, names.iter().map(ToString::to_string).collect()))
            .collect();
        labels(
            found
                .iter()
                .map(|(inode, names)| (*inode, names.as_slice())),
        )
    }

    #[test]
    fn paths_of_namespaces_are_quoted_for_the_shell_and_escaped_for_display() {
        for (name, typed) in [
            (&b"/run/netns/blue-1.x_y"[..], "/run/netns/blue-1.x_y"),
            (b"/proc/7/ns/net", "/proc/7/ns/net"),
            (b"$(reboot) it's", r"'$(reboot) it'\''s'"),
            ("\u{fc}".as_bytes(), "'\u{fc}'"),
            (
                b"a\nb\x1b[31m'",
                r#""$(printf %b 'a\0012b\0033\013331m\0047')""#,
            ),
            (b"non\xff7", r#""$(printf %b 'non\03777')""#),
            ("\u{9b}".as_bytes(), r#""$(printf %b '\0302\0233')""#),
            (
                "\u{202e}x".as_bytes(),
                r#""$(printf %b '\0342\0200\0256x')""#,
            ),
        ] {
            assert_eq!(quoted(name), typed);
        }
    }

    #[test]
    fn a_namespace_is_called_by_its_first_name_or_by_its_inode() {
        let found: &[(u64, &[&str])] = &[(7, &["red", "blue"]), (8, &[])];
        assert_eq!(labelled(found), ["blue", "8"]);
    }

    #[test]
    fn no_label_is_given_twice_whatever_the_names() {
        let found: &[(u64, &[&str])] = &[(7, &["8", "9"]), (8, &[]), (10, &["9"]), (9, &["7"])];
        assert_eq!(labelled(found), ["7", "8", "10", "9"]);
        let twice: &[(u64, &[&str])] = &[(7, &["a"]), (8, &["a"])];
        assert_eq!(labelled(twice), ["a", "8"]);
    }

    #[test]
    fn those_with_the_highest_ratio_are_kept() {
        let ranked = [
            (Some(0.0), "a"),
            (Some(0.9), "b"),
            (None, "c"),
            (Some(0.0), "d"),
            (Some(0.1), "e"),
        ];
        let kept = |max| keep_worst(&ranked, max);
        assert_eq!(kept(0), [false; 5]);
        assert_eq!(kept(1), [false, true, false, false, false]);
        assert_eq!(kept(3), [false, true, true, false, true]);
        assert_eq!(kept(4), [true, true, true, false, true]);
        assert_eq!(kept(9), [true; 5]);
    }
}
