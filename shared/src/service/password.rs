//! Passwords: Argon2id, one at a time, with the same work whether or not there is anything to
//! compare with.

use std::{fmt, sync::Arc};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use rand::CryptoRng;
use subtle::ConstantTimeEq;
use tokio::sync::{Mutex, oneshot};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    domain::{
        error::{Error, Result},
        password::Password,
    },
    service::random::Random,
};

/// OWASP's first choice of those that need under 32 MiB: 19 MiB, two passes, one lane.
/// <https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id>
const PARAMS: Params = match Params::new(19_456, 2, 1, Some(OUTPUT)) {
    Ok(params) => params,
    Err(_) => panic!("these are in range"),
};
const OUTPUT: usize = 32;
const SALT: usize = 16;
/// What a stored hash may ask for at the most: a record is data, and no reason to take all memory.
const MAX_MEMORY: u32 = 64 * 1024;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 4;

/// What became of a password that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is right, and its hash as strong as hashes are made now.
    Right,
    /// It is right, but its hash is weaker than hashes are made now.
    RightButWeak,
    /// It is wrong, or there is none.
    Wrong,
}

/// What hashing works with: the memory, which one hash at a time uses, and what stands in for a
/// hash where there is none.
pub(crate) struct Passwords {
    memory: Arc<Mutex<Vec<Block>>>,
    decoy: PasswordHash,
}

impl Passwords {
    /// With a decoy that no password matches.
    pub(crate) fn new(rng: &mut dyn CryptoRng) -> Self {
        let (mut salt, mut output) = ([0; SALT], [0; OUTPUT]);
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut output);
        Self {
            memory: Arc::default(),
            decoy: phc(&salt, &output).expect("salt and output are of the lengths of such"),
        }
    }

    /// Runs one hash, when no other runs, on a thread that may block.
    async fn hash(
        &self,
        password: Password,
        params: Params,
        salt: Vec<u8>,
        output: usize,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let memory = self.memory.clone().lock_owned().await;
        let (result, hashed) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let mut memory = memory;
            // What is kept is of the usual size.
            if memory.len() != params.block_count() {
                *memory = Vec::new();
            }
            let done = fill(&mut memory, &password, params, &salt, output);
            // The answer goes on its way; the next hash waits until the memory is clean.
            let _ = result.send(done);
            memory.iter_mut().zeroize();
            if memory.len() > PARAMS.block_count() {
                *memory = Vec::new();
            }
        });
        hashed.await.map_err(|error| internal(&error))?
    }
}

fn fill(
    memory: &mut Vec<Block>,
    password: &Password,
    params: Params,
    salt: &[u8],
    output: usize,
) -> Result<Zeroizing<Vec<u8>>> {
    let blocks = params.block_count();
    memory
        .try_reserve_exact(blocks.saturating_sub(memory.len()))
        .map_err(|error| internal(&error))?;
    memory.resize(blocks, Block::new());
    let mut out = Zeroizing::new(vec![0; output]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut out, memory)
        .map_err(|error| internal(&error))?;
    Ok(out)
}

impl Passwords {
    /// Hashes a password to keep: a PHC string.
    ///
    /// # Errors
    /// The machine has not the memory.
    pub(crate) async fn hash_new(&self, password: Password, random: &Random) -> Result<String> {
        let mut salt = vec![0; SALT];
        random.draw().fill_bytes(&mut salt);
        let output = self.hash(password, PARAMS, salt.clone(), OUTPUT).await?;
        Ok(phc(&salt, &output)?.to_string())
    }

    /// Tries a password against what is kept of the right one. Where nothing is kept, or nothing
    /// that can be used, the same work is done all the same.
    ///
    /// # Errors
    /// The machine has not the memory.
    pub(crate) async fn verify(&self, password: Password, kept: Option<&str>) -> Result<Verdict> {
        let kept = kept.and_then(|text| {
            let usable = usable(text);
            if usable.is_none() {
                tracing::error!("a password's record asks for what no hash of ours does");
            }
            usable
        });
        let (record, params) = kept
            .as_ref()
            .map_or((&self.decoy, &PARAMS), |kept| (&kept.record, &kept.params));
        let (Some(salt), Some(right)) = (&record.salt, &record.hash) else {
            return Err(internal(&"a hash without salt or output"));
        };
        let output = self
            .hash(password, params.clone(), salt.to_vec(), right.len())
            .await?;
        let same = bool::from(output.as_slice().ct_eq(right.as_bytes()));
        Ok(match kept {
            Some(kept) if same && kept.is_weak() => Verdict::RightButWeak,
            Some(_) if same => Verdict::Right,
            _ => Verdict::Wrong,
        })
    }
}

/// A record that can be compared with.
struct Usable {
    record: PasswordHash,
    params: Params,
}

impl Usable {
    fn is_weak(&self) -> bool {
        self.params.m_cost() < PARAMS.m_cost()
            || self.params.t_cost() < PARAMS.t_cost()
            || self.record.hash.is_none_or(|hash| hash.len() < OUTPUT)
    }
}

/// Reads a record: an Argon2id hash that asks for no absurd amount of work.
fn usable(text: &str) -> Option<Usable> {
    let record = PasswordHash::new(text).ok()?;
    let params = Params::try_from(&record).ok()?;
    let is_ours = record.algorithm.as_str() == "argon2id"
        && record.version == Some(Version::V0x13.into())
        && record.salt.is_some()
        && record.hash.is_some()
        && params.m_cost() <= MAX_MEMORY
        && params.t_cost() <= MAX_PASSES
        && params.p_cost() <= MAX_LANES;
    is_ours.then_some(Usable { record, params })
}

fn phc(salt: &[u8], output: &[u8]) -> Result<PasswordHash> {
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&PARAMS).map_err(|error| internal(&error))?,
        salt: Some(Salt::new(salt).map_err(|error| internal(&error))?),
        hash: Some(Output::new(output).map_err(|error| internal(&error))?),
    })
}

fn internal(cause: &dyn fmt::Display) -> Error {
    Error::Internal {
        cause: format!("password hash: {cause}"),
    }
}
