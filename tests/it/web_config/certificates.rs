//! Certificates for one test, in its own folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, PKCS_ED25519, SanType, date_time_ymd,
};

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Pair {
    /// Writes both into a folder.
    pub fn write(&self, folder: &Path, name: &str) {
        fs::write(folder.join(format!("{name}.pem")), &self.cert).unwrap();
        fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }
}

/// Someone who signs certificates.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server with this name.
    pub fn server(&self, name: &str) -> Pair {
        self.sign(&CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// For a server named localhost, out of date.
    pub fn expired_server(&self) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(&params)
    }

    /// For a client with these names.
    pub fn client(&self, names: &[SanType]) -> Pair {
        self.sign(&client_params(names))
    }

    /// For a client, out of date.
    pub fn expired_client(&self) -> Pair {
        let mut params = client_params(&[]);
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn client_params(names: &[SanType]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.to_vec();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A self-signed client certificate; optionally marked as a CA, as openssl's are.
pub fn self_signed_client(is_ca: bool) -> Pair {
    let mut params = client_params(&[]);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    Pair {
        cert: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

/// A folder with `server.pem` and `server.key` for localhost, and `ca.pem`, which signed the certificate.
pub struct Folder {
    pub ca: Ca,
    pub server: Pair,
    folder: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("test CA");
        let server = ca.server("localhost");
        server.write(folder.path(), "server");
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { ca, server, folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        // Atomically.
        let new = self.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Certificates of kinds that ring does not create, by openssl; false if it is not installed.
    pub fn add_other_kinds(&self) -> bool {
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&ed25519).unwrap().pem();
        let key = ed25519.serialize_pem();
        Pair { cert, key }.write(self.path(), "ed25519");
        let other = KeyPair::generate().unwrap().serialize_pem();
        self.write("other.key", &other);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        self.write("ca-and-junk.pem", &format!("{}{junk}", self.ca.pem()));
        nix::unistd::mkfifo(&self.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let commands = [
            "req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.pem -subj /CN=localhost",
            "rsa -in rsa.key -traditional -out rsa-pkcs1.key",
            "ecparam -genkey -name prime256v1 -out sec1.key",
            "req -x509 -key sec1.key -out sec1.pem -subj /CN=localhost",
            "pkey -in server.key -aes128 -passout pass:x -out encrypted.key",
            "ec -in server.key -aes128 -passout pass:x -out encrypted-traditional.key",
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-521 -nodes -keyout p521.key -out p521.pem -subj /CN=localhost",
        ];
        let is_done = commands.iter().all(|arguments| {
            let status = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(self.path())
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        });
        if is_done {
            self.add_keys_behind_others();
        }
        is_done
    }

    /// The server's key behind an unusable one.
    fn add_keys_behind_others(&self) {
        let encrypted = fs::read_to_string(self.path().join("encrypted.key")).unwrap();
        let other = "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n";
        for (name, first) in [
            ("encrypted-then-plain.key", encrypted.as_str()),
            ("other-then-plain.key", other),
        ] {
            self.write(name, &format!("{first}{}", self.server.key));
        }
    }
}
