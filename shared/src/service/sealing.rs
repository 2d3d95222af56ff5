//! Encrypts the stored values of e-mail tokens. The values are encrypted, not hashed, because
//! clients can read the values again.
//!
//! A data key seals (encrypts) each value with AES-256-GCM. The value is bound to its record: a
//! value that is copied to another record cannot be opened (decrypted). The identity table contains
//! the data key, wrapped (encrypted) by a key that is stored elsewhere: in AWS KMS, or in a local
//! file. The first request that seals a value creates the data key. Each execution environment
//! unwraps the data key once.

use std::{
    fmt,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use aws_sdk_kms::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::Blob,
    types::DataKeySpec,
};
use rand::CryptoRng;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use crate::{
    domain::{
        email_token::Sealed,
        error::{Error, Result},
    },
    service::random::Random,
    store::identity::Identity,
};

const KEY: usize = 32;
const NONCE: usize = 12;
/// The texts that the wrapped data key is bound to. In KMS, they are the name and the value in the
/// encryption context. With a local key, the second text is the associated data.
const PURPOSE: (&str, &str) = ("tokenry", "value-key");

type Key = Zeroizing<[u8; KEY]>;

/// The location of the key that wraps the data key.
enum Source {
    /// A KMS key, by its ARN.
    Kms {
        client: aws_sdk_kms::Client,
        arn: String,
    },
    /// A file that contains the key in hex.
    File(PathBuf),
    /// A key in memory, which is lost when the process ends.
    Memory(Key),
}

/// Seals (encrypts) and opens (decrypts) the values of e-mail tokens.
pub struct ValueKey {
    source: Source,
    data_key: OnceCell<Key>,
}

impl ValueKey {
    fn new(source: Source) -> Self {
        let data_key = OnceCell::new();
        Self { source, data_key }
    }

    /// Creates a value key whose data key is wrapped by AWS KMS.
    pub fn kms(client: aws_sdk_kms::Client, arn: String) -> Self {
        Self::new(Source::Kms { client, arn })
    }

    /// Creates a value key whose data key is wrapped by the key in a file. The file is created
    /// together with the data key, and only the file's owner can read the file.
    pub fn file(path: PathBuf) -> Self {
        Self::new(Source::File(path))
    }

    /// Creates a value key whose data key is wrapped by a key in memory. That key is lost when the
    /// process ends, like the in-memory database.
    pub fn in_memory(rng: &mut dyn CryptoRng) -> Self {
        Self::new(Source::Memory(draw(rng)))
    }

    /// Returns the data key, or `None` if no data key is stored yet. Reads and unwraps the data key
    /// only once.
    async fn stored_key(&self, identity: &Identity) -> Result<Option<&Key>> {
        let find = async || match identity.value_key().await {
            Ok(Some(wrapped)) => self.unwrap(&wrapped).await.map_err(Some),
            Ok(None) => Err(None),
            Err(error) => Err(Some(error)),
        };
        match self.data_key.get_or_try_init(find).await {
            Ok(key) => Ok(Some(key)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// Returns the data key. Creates and stores a data key if none is stored yet.
    async fn data_key(&self, identity: &Identity, random: &Random) -> Result<&Key> {
        if let Some(key) = self.stored_key(identity).await? {
            return Ok(key);
        }
        let make = async || {
            let (key, wrapped) = self.make(random).await?;
            match identity.insert_value_key(wrapped).await? {
                None => Ok(key),
                // Another execution environment created the data key first.
                Some(theirs) => self.unwrap(&theirs).await,
            }
        };
        self.data_key.get_or_try_init(make).await
    }

    /// Creates a data key. Returns the data key, and the wrapped data key.
    async fn make(&self, random: &Random) -> Result<(Key, Vec<u8>)> {
        let local = match &self.source {
            Source::Kms { client, arn } => {
                let made = client
                    .generate_data_key()
                    .key_id(arn)
                    .key_spec(DataKeySpec::Aes256)
                    .encryption_context(PURPOSE.0, PURPOSE.1)
                    .send()
                    .await
                    .map_err(|error| from_kms(&error))?;
                let wrapped = made.ciphertext_blob.map(Blob::into_inner);
                let key = made.plaintext.map(|key| Zeroizing::new(key.into_inner()));
                let key = key
                    .as_deref()
                    .and_then(|key| key.as_slice().try_into().ok());
                return key
                    .map(Zeroizing::new)
                    .zip(wrapped)
                    .ok_or_else(|| unavailable(&"the KMS response contains no valid key"));
            }
            Source::File(path) => &file_key(path, &mut *random.draw())?,
            Source::Memory(key) => key,
        };
        let key = draw(&mut *random.draw());
        let wrapped = seal(
            local,
            key.as_slice(),
            PURPOSE.1.as_bytes(),
            &mut *random.draw(),
        )?;
        Ok((key, wrapped.0))
    }

    async fn unwrap(&self, wrapped: &[u8]) -> Result<Key> {
        let local = match &self.source {
            Source::Kms { client, arn } => {
                let opened = client
                    .decrypt()
                    .key_id(arn)
                    .ciphertext_blob(Blob::new(wrapped))
                    .encryption_context(PURPOSE.0, PURPOSE.1)
                    .send()
                    .await
                    .map_err(|error| from_kms(&error))?;
                let key = opened.plaintext.map(|key| Zeroizing::new(key.into_inner()));
                let key = key
                    .as_deref()
                    .and_then(|key| key.as_slice().try_into().ok());
                return key
                    .map(Zeroizing::new)
                    .ok_or_else(|| unavailable(&"the KMS response contains no valid key"));
            }
            Source::File(path) => &read_key(path).map_err(|error| unavailable(&error))?,
            Source::Memory(key) => key,
        };
        let key = open(local, wrapped, PURPOSE.1.as_bytes())?;
        let key = key.as_slice().try_into().map(Zeroizing::new);
        key.map_err(|_| unavailable(&"the unwrapped data key has the wrong length"))
    }
}

impl ValueKey {
    /// Unwraps the data key before the first request arrives.
    ///
    /// # Errors
    /// The database is unavailable, or the key that wraps the data key is unavailable.
    pub(crate) async fn warm_up(&self, identity: &Identity) -> Result<()> {
        self.stored_key(identity).await.map(|_| ())
    }

    /// Seals a value for the record that `bound_to` identifies.
    pub(crate) async fn seal(
        &self,
        value: &str,
        bound_to: &str,
        identity: &Identity,
        random: &Random,
    ) -> Result<Sealed> {
        let key = self.data_key(identity, random).await?;
        let (value, bound_to) = (value.as_bytes(), bound_to.as_bytes());
        seal(key, value, bound_to, &mut *random.draw())
    }

    /// Opens a value that was sealed for the record that `bound_to` identifies.
    pub(crate) async fn open(
        &self,
        sealed: &Sealed,
        bound_to: &str,
        identity: &Identity,
    ) -> Result<Zeroizing<String>> {
        let key = self.stored_key(identity).await?;
        let key = key.ok_or_else(|| unavailable(&"the data key of a sealed value is missing"))?;
        let value = open(key, &sealed.0, bound_to.as_bytes())?;
        let value = str::from_utf8(&value).map_err(|_| unavailable(&"a value is not UTF-8"))?;
        Ok(Zeroizing::new(value.to_owned()))
    }
}

fn draw(rng: &mut dyn CryptoRng) -> Key {
    let mut key = Zeroizing::new([0; KEY]);
    rng.fill_bytes(key.as_mut_slice());
    key
}

fn seal(key: &Key, text: &[u8], bound_to: &[u8], rng: &mut dyn CryptoRng) -> Result<Sealed> {
    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    let payload = Payload {
        msg: text,
        aad: bound_to,
    };
    let ciphertext = cipher(key)
        .encrypt(&nonce.into(), payload)
        .map_err(|_| unavailable(&"a value cannot be sealed"))?;
    Ok(Sealed([nonce.as_slice(), &ciphertext].concat()))
}

fn open(key: &Key, sealed: &[u8], bound_to: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let opened = sealed
        .split_first_chunk::<NONCE>()
        .and_then(|(nonce, text)| {
            let payload = Payload {
                msg: text,
                aad: bound_to,
            };
            cipher(key).decrypt(&(*nonce).into(), payload).ok()
        });
    opened
        .map(Zeroizing::new)
        .ok_or_else(|| unavailable(&"a sealed value was changed or sealed with another key"))
}

fn cipher(key: &Key) -> Aes256Gcm {
    Aes256Gcm::new((&**key).into())
}

/// Returns the key in a file. Creates the file if the file does not exist. The file always contains
/// the whole key, even if the process was interrupted while it created the file.
fn file_key(path: &Path, rng: &mut dyn CryptoRng) -> Result<Key> {
    let key = draw(rng);
    let new = path.with_extension(format!("{:016x}", rng.next_u64()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(&new).and_then(|mut file| {
        file.write_all(Zeroizing::new(hex::encode(key.as_slice())).as_bytes())?;
        file.sync_all()?;
        // Unlike a rename, a hard link never replaces an existing file.
        std::fs::hard_link(&new, path)
    });
    // The temporary file is no longer needed: either the key file exists now, or an error occurred
    // and the new key is not used.
    let _ = std::fs::remove_file(&new);
    match made {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read_key(path).map_err(|error| unavailable(&error))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

fn read_key(path: &Path) -> std::io::Result<Key> {
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    let mut key = Zeroizing::new([0; KEY]);
    hex::decode_to_slice(text.trim(), key.as_mut_slice())
        .map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "not 64 hex digits"))?;
    Ok(key)
}

fn unavailable(cause: &dyn fmt::Display) -> Error {
    Error::Unavailable {
        cause: format!("value key: {cause}"),
    }
}

/// Converts an error of KMS. The cause contains the error code of KMS. Every KMS error leads to a
/// 503, even if the key is disabled: the key may become available again, and until then no value is
/// lost.
fn from_kms<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Error {
    let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
    let code = meta.and_then(|meta| meta.code());
    unavailable(&format_args!("KMS: {}", code.unwrap_or("no response")))
}
