//! Which container a process is in, by the path of its control group.
//!
//! The kernel knows no containers. What every runtime leaves behind is the name that it gives to a
//! container's control group, and these names are read here: `/proc/PID/cgroup`, version 1 (a line a
//! hierarchy) and 2 (one line that begins `0::`). Known are docker, containerd with and without
//! Kubernetes, nerdctl, CRI-O, podman, systemd-nspawn, LXC and ECS, with the cgroupfs and the systemd
//! driver. A name that is none of theirs is no container: nothing is guessed.
//!
//! Reads no file.

/// What the control group of a process says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerIdentity {
    /// The runtime's name for the container: 64 hexadecimal digits for most, a machine's name for
    /// systemd-nspawn and LXC.
    pub container_id: Option<String>,
    /// The pod's uid as Kubernetes writes it; of a static pod what its kubelet calls it, which is not
    /// the uid in the API.
    pub pod_uid: Option<String>,
}

/// The longest name that is taken, in bytes. Names of machines have 64 at most.
const LONGEST_NAME: usize = 128;

impl ContainerIdentity {
    /// From the text of `/proc/PID/cgroup`. Of several hierarchies the one that says most.
    pub fn parse(text: &str) -> Self {
        let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let found = paths.map(Self::of_path);
        // Of several that miss as much the first.
        found.min_by_key(Self::misses).unwrap_or_default()
    }

    fn misses(&self) -> u8 {
        u8::from(self.container_id.is_none()) + u8::from(self.pod_uid.is_none())
    }

    /// The innermost container of a path: a container may run others.
    fn of_path(path: &str) -> Self {
        let mut found = Self::default();
        let mut before = "";
        let mut components = path.split('/').peekable();
        while let Some(component) = components.next() {
            let after = components.peek().copied().unwrap_or_default();
            // containerd joins the three parts of systemd's name with colons if it is to use the other
            // driver: kubepods-podUID.slice:cri-containerd:ID.
            for part in component.split(':') {
                if let Some(uid) = pod_uid(part) {
                    found = Self {
                        container_id: None,
                        pod_uid: Some(uid),
                    };
                } else if let Some(id) = container_id(part, before, after) {
                    found.container_id = Some(id);
                }
            }
            before = component;
        }
        found
    }
}

/// `podUID` of the cgroupfs driver, or `kubepods-burstable-podUID.slice` of systemd's, whose slices
/// cannot have a `-` in their names.
fn pod_uid(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.rsplit_once("-pod") {
        Some((slice, uid)) if slice.contains("kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let lengths: Vec<usize> = uid.split('-').map(str::len).collect();
    let is_uid = matches!(*lengths, [8, 4, 4, 4, 12] | [32]);
    (is_uid && uid.split('-').all(is_hexadecimal)).then_some(uid)
}

fn container_id(name: &str, parent: &str, child: &str) -> Option<String> {
    let scope = name.strip_suffix(".scope");
    let bare = scope.unwrap_or(name);
    // RUNTIME-ID, or ID alone.
    let (runtime, id) = bare.rsplit_once('-').unwrap_or(("", bare));
    if id.len() == 64 && is_hexadecimal(id) {
        // A monitor is outside of the container that it watches.
        return (!runtime.ends_with("conmon")).then(|| id.to_owned());
    }
    let machine = match scope {
        // In a slice of another name (--slice=) or seen from a sibling, it is known by what nspawn makes in it.
        Some(scope) if is_of_machines(parent) || parent == ".." || child == "payload" => {
            scope.strip_prefix("machine-")
        }
        _ => name
            .strip_prefix("systemd-nspawn@")
            .and_then(|rest| rest.strip_suffix(".service"))
            .or_else(|| name.strip_prefix("lxc.payload."))
            .or_else(|| (parent == "lxc").then_some(name))
            .or_else(|| name.strip_suffix(".nspawn").filter(|_| parent == "machine")),
    };
    match machine {
        Some(machine) => machine_name(machine),
        None => ecs_id(bare).then(|| bare.to_owned()),
    }
}

/// `machine.slice`, or a slice within it (`systemd-nspawn --slice=machine-web.slice`).
fn is_of_machines(slice: &str) -> bool {
    let name = slice.strip_suffix(".slice").unwrap_or_default();
    name == "machine" || name.starts_with("machine-")
}

/// A task's 32 digits and a container's number, as the ECS agent names what runs on Fargate.
fn ecs_id(name: &str) -> bool {
    name.split_once('-').is_some_and(|(task, number)| {
        // Of 64 bits at most: anyone who may make a control group may call it anything.
        let is_number =
            matches!(number.len(), 1..=20) && number.bytes().all(|byte| byte.is_ascii_digit());
        task.len() == 32 && is_hexadecimal(task) && is_number
    })
}

/// A machine's name as systemd escapes it in the name of a unit: `\x2d` for `-`. Virtual machines are
/// registered as machines too and are no containers.
fn machine_name(escaped: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = escaped;
    while let Some((before, after)) = rest.split_once("\\x") {
        let (digits, tail) = after.split_at_checked(2)?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        name.push_str(before);
        name.push(byte.is_ascii().then(|| char::from(byte))?);
        rest = tail;
    }
    name.push_str(rest);
    let is_good = !name.is_empty() && name.len() <= LONGEST_NAME && !name.starts_with("qemu-");
    is_good.then_some(name)
}

fn is_hexadecimal(text: &str) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    !text.is_empty() && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "8f1a5e3c0b7d94f26a1c3e5b7d9f0a2c4e6b8d0f1a3c5e7b9d1f3a5c7e9b0d2f";
    const UID: &str = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0";

    fn found(text: &str) -> (Option<String>, Option<String>) {
        let found = ContainerIdentity::parse(text);
        (found.container_id, found.pod_uid)
    }

    #[test]
    fn a_path_without_a_container_has_none() {
        for path in [
            "/",
            "/init.scope",
            "/system.slice/docker.service",
            "/system.slice/containerd.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/kubepods.slice/kubepods-burstable.slice",
            "/system.slice/pod-manager.service",
            "/machine.slice/machine-qemu\\x2d1\\x2ddb.scope",
            "/machine.slice/machine-bad\\xzz.scope",
        ] {
            assert_eq!(found(&format!("0::{path}\n")), (None, None), "{path}");
        }
        assert_eq!(found(""), (None, None));
        assert_eq!(found("no colons\n"), (None, None));
    }

    #[test]
    fn a_name_like_that_of_ecs_is_accepted_at_its_length_only() {
        let task = ID.get(..32).unwrap_or_default();
        let of_digits =
            |digits: usize| found(&format!("0::/ecs/{task}-{}\n", "7".repeat(digits))).0;
        assert!(of_digits(10).is_some() && of_digits(20).is_some());
        assert_eq!(
            (of_digits(0), of_digits(21), of_digits(3_000)),
            (None, None, None)
        );
    }

    #[test]
    fn a_monitor_is_not_in_the_container_that_it_watches() {
        let path = format!("0::/machine.slice/libpod-conmon-{ID}.scope\n");
        assert_eq!(found(&path), (None, None));
    }

    #[test]
    fn the_innermost_container_counts() {
        let outer = ID.replace('8', "0");
        let pod = UID.replace('-', "_");
        let path = format!(
            "0::/docker/{outer}/kubelet.slice/kubelet-kubepods.slice/\
             kubelet-kubepods-pod{pod}.slice/cri-containerd-{ID}.scope\n"
        );
        assert_eq!(found(&path), (Some(ID.to_owned()), Some(UID.to_owned())));
        let path = format!("0::/docker/{outer}/kubepods/besteffort/pod{UID}\n");
        assert_eq!(found(&path), (None, Some(UID.to_owned())));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in ".{0,200}",
            shaped in "(0::)?(/(pod|machine-|lxc|docker|\\\\x[0-9a-z]{0,2}|[0-9a-f]{0,65}|-|:|\\.scope|\\.slice|é)*){0,6}",
        ) {
            for text in [text, shaped] {
                let found = ContainerIdentity::parse(&text);
                let longest = found.container_id.map_or(0, |id| id.len());
                prop_assert!(longest <= LONGEST_NAME);
            }
        }
    }
}
