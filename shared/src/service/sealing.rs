//! Encrypts the stored values of e-mail tokens. The values are encrypted, not hashed, because
//! clients can read the values again.
//!
//! A data key seals (encrypts) each value with AES-256-GCM. The value is bound to its record: a
//! value that is copied to another record cannot be opened (decrypted). The identity table contains
//! the data keys, wrapped (encrypted) by a key that is stored elsewhere: in AWS KMS, or in a local
//! file. The first request that seals a value creates the first data key. Each execution
//! environment unwraps each data key once.
//!
//! An operator can add data keys ([`super::rotation`]). The newest data key seals all new values. A
//! value stores the id of its data key, and all stored data keys open values. So a new key can be
//! used immediately: an execution environment that does not know the key's id reads the data keys
//! again.

use std::{
    fmt,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};
use aws_sdk_kms::{
    error::{ProvideErrorMetadata, SdkError},
    operation::decrypt::DecryptError,
    primitives::Blob,
    types::DataKeySpec,
};
use rand::CryptoRng;
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OnceCell};
use zeroize::Zeroizing;

use crate::{
    domain::{
        email_token::{DataKeyId, Sealed},
        error::{Error, Result},
        time::Timestamp,
    },
    service::random::Random,
    store::identity::{Identity, StoredDataKey, StoredDataKeys},
};

const KEY: usize = 32;
const NONCE: usize = 12;
/// The texts that each wrapped data key is bound to. In KMS, they are the name and the value in the
/// encryption context. With a local key, the second text is the associated data.
const PURPOSE: (&str, &str) = ("tokenry", "value-key");

pub(super) type Key = Zeroizing<[u8; KEY]>;

/// The location of the key that wraps the data keys.
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

/// The longest time in milliseconds for which an execution environment seals values without reading
/// the data keys again. An operator may remove an old data key only after all environments seal
/// with a newer one.
const READ_AGAIN: u64 = 60_000;

/// Seals (encrypts) and opens (decrypts) the values of e-mail tokens.
pub struct ValueKey {
    source: Source,
    /// The data keys that were read last.
    keys: RwLock<Option<Arc<DataKeys>>>,
    /// Locked while the data keys are read or created.
    reading: Mutex<()>,
}

/// The stored data keys, as they were at one moment.
pub(super) struct DataKeys {
    /// Oldest first.
    keys: Vec<Arc<DataKey>>,
    /// The time before the read.
    read_at: Timestamp,
}

struct DataKey {
    stored: StoredDataKey,
    unwrapped: OnceCell<Key>,
}

impl DataKeys {
    fn with_id(&self, id: &DataKeyId) -> Option<&DataKey> {
        let mut keys = self.keys.iter();
        keys.find(|key| key.stored.id == *id).map(Arc::as_ref)
    }

    fn newest(&self) -> Option<&DataKey> {
        self.keys.last().map(Arc::as_ref)
    }

    /// Returns whether the keys were read recently enough to seal a value.
    fn may_seal_at(&self, now: Timestamp) -> bool {
        let age = now.millis().checked_sub(self.read_at.millis());
        age.is_some_and(|age| age <= READ_AGAIN)
    }
}

impl ValueKey {
    fn new(source: Source) -> Self {
        Self {
            source,
            keys: RwLock::new(None),
            reading: Mutex::new(()),
        }
    }

    /// Creates a value key that is a key in AWS KMS. It wraps the data keys.
    pub fn kms(client: aws_sdk_kms::Client, arn: String) -> Self {
        Self::new(Source::Kms { client, arn })
    }

    /// Creates a value key that is in a file. It wraps the data keys. The file is created when the
    /// key wraps the first data key, and only the file's owner can read the file.
    pub fn file(path: PathBuf) -> Self {
        Self::new(Source::File(path))
    }

    /// Creates a value key in memory. It wraps the data keys. It is lost when the process ends,
    /// like the in-memory database.
    pub fn in_memory(rng: &mut dyn CryptoRng) -> Self {
        Self::new(Source::Memory(draw(rng)))
    }

    fn current(&self) -> Option<Arc<DataKeys>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// Stores data keys that were read. A data key that is already unwrapped stays so.
    pub(super) fn adopt(
        &self,
        stored: Option<&StoredDataKeys>,
        read_at: Timestamp,
    ) -> Arc<DataKeys> {
        let before = self.current();
        let stored = stored.map(StoredDataKeys::keys).unwrap_or_default();
        let keys = stored.into_iter().map(|stored| {
            let mut known = before.iter().flat_map(|before| &before.keys);
            match known.find(|known| known.stored == stored) {
                Some(known) => known.clone(),
                None => Arc::new(DataKey {
                    stored,
                    unwrapped: OnceCell::new(),
                }),
            }
        });
        let keys = Arc::new(DataKeys {
            keys: keys.collect(),
            read_at,
        });
        let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(keys.clone());
        keys
    }

    /// Returns other data keys than `than`: those that another request has read meanwhile, or those
    /// that this function reads. Also returns whether this function read them.
    async fn other(
        &self,
        than: Option<&Arc<DataKeys>>,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<(Arc<DataKeys>, bool)> {
        let _reading = self.reading.lock().await;
        let current = self.current();
        let is_other = |keys: &Arc<DataKeys>| than.is_none_or(|than| !Arc::ptr_eq(than, keys));
        if let Some(current) = current.filter(is_other) {
            return Ok((current, false));
        }
        let stored = identity.data_keys().await?;
        Ok((self.adopt(stored.as_ref(), now), true))
    }

    /// Returns the data keys that were read last. Reads them if none were read yet. Also returns
    /// whether this function read them.
    async fn known(&self, identity: &Identity, now: Timestamp) -> Result<(Arc<DataKeys>, bool)> {
        match self.current() {
            Some(keys) => Ok((keys, false)),
            None => self.other(None, identity, now).await,
        }
    }

    /// Creates and stores the first data key, unless a data key is stored.
    async fn create_first(
        &self,
        identity: &Identity,
        random: &Random,
        now: Timestamp,
    ) -> Result<Arc<DataKeys>> {
        let _reading = self.reading.lock().await;
        if let Some(keys) = self.current().filter(|keys| !keys.keys.is_empty()) {
            return Ok(keys);
        }
        let (key, wrapped) = self.make(random).await?;
        // Another execution environment may have created a data key first. Then this one adopts
        // that key. If the stored key is equal to `wrapped`, this environment has stored it, even
        // if the response to its first attempt was lost.
        let stored = identity
            .insert_first_data_key(&wrapped, check(&key))
            .await?;
        let keys = self.adopt(Some(&stored), now);
        if let Some(newest) = keys.newest()
            && newest.stored.wrapped == [wrapped.as_slice()]
        {
            let _ = newest.unwrapped.set(key);
        }
        Ok(keys)
    }

    /// Returns a data key. Unwraps it only once.
    async fn unwrapped<'a>(&self, key: &'a DataKey) -> Result<&'a Key> {
        let unwrap = async || {
            let key = self.unwrap(&key.stored).await?;
            key.ok_or_else(|| unavailable(&"a data key was wrapped with another value key"))
        };
        key.unwrapped.get_or_try_init(unwrap).await
    }

    /// Creates a data key. Returns the data key, and the wrapped data key.
    pub(super) async fn make(&self, random: &Random) -> Result<(Key, Vec<u8>)> {
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
        Ok((key, wrapped))
    }

    /// Wraps a data key.
    pub(super) async fn wrap(&self, key: &Key, random: &Random) -> Result<Vec<u8>> {
        let local = match &self.source {
            Source::Kms { client, arn } => {
                let sealed = client
                    .encrypt()
                    .key_id(arn)
                    .plaintext(Blob::new(key.as_slice()))
                    .encryption_context(PURPOSE.0, PURPOSE.1)
                    .send()
                    .await
                    .map_err(|error| from_kms(&error))?;
                let wrapped = sealed.ciphertext_blob.map(Blob::into_inner);
                return wrapped.ok_or_else(|| unavailable(&"the KMS response contains no key"));
            }
            Source::File(path) => &file_key(path, &mut *random.draw())?,
            Source::Memory(key) => key,
        };
        let purpose = PURPOSE.1.as_bytes();
        seal(local, key.as_slice(), purpose, &mut *random.draw())
    }

    /// Unwraps a data key. Returns `None` if only other value keys wrapped it.
    ///
    /// With a wrong data key, no value could be opened, and each log-in would replace the user's
    /// e-mail token. So this function compares the check value of each unwrapped key, if a check
    /// value is stored. It does not assume that unwrapping with a wrong value key always fails.
    ///
    /// # Errors
    /// The value key is unavailable.
    pub(super) async fn unwrap(&self, stored: &StoredDataKey) -> Result<Option<Key>> {
        for wrapped in &stored.wrapped {
            let key = self.unwrap_one(wrapped).await?;
            let is_right = |key: &Key| {
                let expected = stored.key_check.as_ref();
                expected.is_none_or(|expected| *expected == check(key))
            };
            if let Some(key) = key.filter(is_right) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    async fn unwrap_one(&self, wrapped: &[u8]) -> Result<Option<Key>> {
        let local = match &self.source {
            Source::Kms { client, arn } => {
                let opened = client
                    .decrypt()
                    .key_id(arn)
                    .ciphertext_blob(Blob::new(wrapped))
                    .encryption_context(PURPOSE.0, PURPOSE.1)
                    .send()
                    .await;
                let opened = match opened {
                    Ok(opened) => opened,
                    Err(error) => {
                        return match error.as_service_error() {
                            Some(
                                DecryptError::IncorrectKeyException(_)
                                | DecryptError::InvalidCiphertextException(_),
                            ) => Ok(None),
                            _ => Err(from_kms(&error)),
                        };
                    }
                };
                let key = opened.plaintext.map(|key| Zeroizing::new(key.into_inner()));
                let key = key
                    .as_deref()
                    .and_then(|key| key.as_slice().try_into().ok());
                return key
                    .map(|key| Some(Zeroizing::new(key)))
                    .ok_or_else(|| unavailable(&"the KMS response contains no valid key"));
            }
            Source::File(path) => &read_key(path).map_err(|error| unavailable(&error))?,
            Source::Memory(key) => key,
        };
        let Some(key) = open(local, wrapped, PURPOSE.1.as_bytes()) else {
            return Ok(None);
        };
        let key = key.as_slice().try_into().map(Zeroizing::new);
        key.map(Some)
            .map_err(|_| unavailable(&"the unwrapped data key has the wrong length"))
    }
}

impl ValueKey {
    /// Unwraps the newest data key before the first request arrives.
    ///
    /// # Errors
    /// The database is unavailable, or the key that wraps the data keys is unavailable.
    pub(crate) async fn warm_up(&self, identity: &Identity, now: Timestamp) -> Result<()> {
        let (keys, _) = self.known(identity, now).await?;
        if let Some(newest) = keys.newest() {
            self.unwrapped(newest).await?;
        }
        Ok(())
    }

    /// Seals a value for the record that `bound_to` identifies, with the newest data key.
    pub(crate) async fn seal(
        &self,
        value: &str,
        bound_to: &str,
        identity: &Identity,
        random: &Random,
        now: Timestamp,
    ) -> Result<Sealed> {
        let (mut keys, mut is_new) = self.known(identity, now).await?;
        while !is_new && !keys.may_seal_at(now) {
            (keys, is_new) = self.other(Some(&keys), identity, now).await?;
        }
        if keys.keys.is_empty() {
            keys = self.create_first(identity, random, now).await?;
        }
        let newest = keys.newest();
        let newest = newest.ok_or_else(|| unavailable(&"no data key is stored"))?;
        let key = self.unwrapped(newest).await?;
        let (value, bound_to) = (value.as_bytes(), bound_to.as_bytes());
        Ok(Sealed {
            bytes: seal(key, value, bound_to, &mut *random.draw())?,
            data_key: newest.stored.id.clone(),
        })
    }

    /// Opens a value that was sealed for the record that `bound_to` identifies. The record must
    /// have been read already. Returns `None` if the value can never be opened.
    ///
    /// A data key is stored before it seals a value, and the ids of removed data keys are never
    /// used again. So if a read of the data keys after the read of the record does not contain the
    /// value's data key, that key was removed.
    pub(crate) async fn open(
        &self,
        sealed: &Sealed,
        bound_to: &str,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Option<Zeroizing<String>>> {
        let (mut keys, mut is_new) = self.known(identity, now).await?;
        loop {
            if let Some(key) = keys.with_id(&sealed.data_key) {
                let key = self.unwrapped(key).await?;
                if let Some(value) = open(key, &sealed.bytes, bound_to.as_bytes()) {
                    let value = str::from_utf8(&value);
                    return Ok(value.ok().map(|value| Zeroizing::new(value.to_owned())));
                }
            }
            if is_new {
                return Ok(None);
            }
            (keys, is_new) = self.other(Some(&keys), identity, now).await?;
        }
    }
}

/// Returns the check value of a data key. It reveals nothing about the key, which is random.
pub(super) fn check(key: &Key) -> ByteBuf {
    let hash = Sha256::new_with_prefix("tokenry value-key check").chain_update(key.as_slice());
    ByteBuf::from(&hash.finalize()[..16])
}

fn draw(rng: &mut dyn CryptoRng) -> Key {
    let mut key = Zeroizing::new([0; KEY]);
    rng.fill_bytes(key.as_mut_slice());
    key
}

fn seal(key: &Key, text: &[u8], bound_to: &[u8], rng: &mut dyn CryptoRng) -> Result<Vec<u8>> {
    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    let payload = Payload {
        msg: text,
        aad: bound_to,
    };
    let ciphertext = cipher(key)
        .encrypt(&nonce.into(), payload)
        .map_err(|_| unavailable(&"a value cannot be sealed"))?;
    Ok([nonce.as_slice(), &ciphertext].concat())
}

/// Opens sealed bytes. Returns `None` if they were changed, sealed with another key, or sealed for
/// another record.
fn open(key: &Key, sealed: &[u8], bound_to: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
    let payload = Payload {
        msg: text,
        aad: bound_to,
    };
    let opened = cipher(key).decrypt(&(*nonce).into(), payload).ok()?;
    Some(Zeroizing::new(opened))
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
