//! Network namespaces with threads, processes and names.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::{fs, thread};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::support::namespace::{enter_new_namespace, set_sysctl};
use crate::support::sockets::{at, connected, listening};

/// A thread in a network namespace of its own, which runs jobs there.
pub struct Place {
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    /// The file of its namespace, while it exists.
    pub file: PathBuf,
    pub inode: u64,
}

impl Place {
    pub fn new() -> Self {
        let (work, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            enter_new_namespace(&[]);
            let task = rustix::thread::gettid().as_raw_nonzero();
            sender
                .send(format!("/proc/self/task/{task}/ns/net"))
                .unwrap();
            for job in jobs {
                job();
            }
        });
        let file = PathBuf::from(receiver.recv().unwrap());
        let inode = fs::metadata(&file).unwrap().ino();
        Self { work, file, inode }
    }

    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        let job = move || {
            let _test_over = sender.send(job());
        };
        self.work.send(Box::new(job)).unwrap();
        receiver.recv().expect("the job in the namespace went well")
    }

    /// Leaves so many sockets in TIME-WAIT to one destination.
    pub fn close(&self, port: u16, connections: usize) {
        self.run(move || {
            // TIME-WAIT sockets count as in use however long the test takes.
            set_sysctl("tcp_tw_reuse", "0");
            let to = at("127.0.0.1", port);
            let listener = listening(to);
            for _ in 0..connections {
                connected(None, &listener, to).close_client_first();
            }
        });
    }

    /// A process in this namespace, which is killed on drop.
    pub fn process(&self) -> Resident {
        let child = self.run(|| {
            let mut command = Command::new("sleep");
            command.arg("1000").stdin(Stdio::null()).spawn().unwrap()
        });
        Resident(child)
    }
}

pub struct Resident(pub Child);

impl Drop for Resident {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A directory in which namespaces have names, as /run/netns, in a mount namespace of the test's own.
pub struct Names(pub TempDir);

impl Names {
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        Self(tempfile::tempdir().unwrap())
    }

    pub fn flag(&self) -> String {
        format!("--path.netns={}", self.0.path().display())
    }

    pub fn give(&self, name: &str, place: &Place) {
        let file = self.0.path().join(name);
        fs::write(&file, "").unwrap();
        let bind = MsFlags::MS_BIND;
        mount(Some(&place.file), &file, None::<&str>, bind, None::<&str>).unwrap();
    }

    pub fn take(&self, name: &str) {
        let file = self.0.path().join(name);
        umount2(&file, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&file).unwrap();
    }

    pub fn named(&self, name: &str) -> Place {
        let place = Place::new();
        self.give(name, &place);
        place
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let _not_mounted = umount2(&entry.unwrap().path(), MntFlags::MNT_DETACH);
        }
    }
}
