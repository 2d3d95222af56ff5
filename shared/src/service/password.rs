//! Password hashing with Argon2id. Only one hash is computed at a time. If a user has no stored
//! hash, checking a password takes the same time as for a user with a stored hash.

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

/// The first setting in OWASP's list that needs less than 32 MiB of memory: 19 MiB, two passes, one
/// lane.
/// <https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id>
const PARAMS: Params = match Params::new(19_456, 2, 1, Some(OUTPUT)) {
    Ok(params) => params,
    Err(_) => panic!("the parameters are in range"),
};
const OUTPUT: usize = 32;
const SALT: usize = 16;
/// The limits for the parameters of a stored hash. The memory is in KiB. Without these limits,
/// checking a corrupt hash could use up all memory.
const MAX_MEMORY: u32 = 64 * 1024;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 4;

/// The result of checking a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The password is correct, and the stored hash is as strong as a new hash.
    Correct,
    /// The password is correct, but the stored hash is weaker than a new hash.
    CorrectButWeak,
    /// The password is wrong, or no usable hash is stored.
    Wrong,
}

/// Computes and checks password hashes.
pub(crate) struct Passwords {
    /// The memory for computing a hash. Only one hash at a time uses the memory.
    memory: Arc<Mutex<Vec<Block>>>,
    /// The hash that a password is checked against if no hash is stored.
    decoy: PasswordHash,
}

impl Passwords {
    /// Creates a random decoy, which no password matches.
    pub(crate) fn new(rng: &mut dyn CryptoRng) -> Self {
        let (mut salt, mut output) = ([0; SALT], [0; OUTPUT]);
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut output);
        Self {
            memory: Arc::default(),
            decoy: phc(&salt, &output).expect("the salt and the output have valid lengths"),
        }
    }

    /// Waits until no other hash is being computed. Then computes this hash on a thread that may
    /// block.
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
            // The memory has the size that the last hash needed. If this hash needs another size,
            // free the memory first.
            if memory.len() != params.block_count() {
                *memory = Vec::new();
            }
            let done = fill(&mut memory, &password, params, &salt, output);
            // Send the result before zeroing the memory. Only the next hash must wait until the
            // memory is zeroed.
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
    /// Hashes a password and returns the PHC string to store.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is not enough memory.
    pub(crate) async fn hash_new(&self, password: Password, random: &Random) -> Result<String> {
        let mut salt = vec![0; SALT];
        random.draw().fill_bytes(&mut salt);
        let output = self.hash(password, PARAMS, salt.clone(), OUTPUT).await?;
        Ok(phc(&salt, &output)?.to_string())
    }

    /// Checks a password against the stored hash. If no usable hash is stored, the password is
    /// checked against the decoy, so that the check takes the same time.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is not enough memory.
    pub(crate) async fn verify(&self, password: Password, stored: Option<&str>) -> Result<Verdict> {
        let stored = stored.and_then(|text| {
            let usable = usable(text);
            if usable.is_none() {
                tracing::error!("a stored password hash is unusable");
            }
            usable
        });
        let (record, params) = stored.as_ref().map_or((&self.decoy, &PARAMS), |stored| {
            (&stored.record, &stored.params)
        });
        let (Some(salt), Some(right)) = (&record.salt, &record.hash) else {
            return Err(internal(&"the stored hash has no salt or no output"));
        };
        let output = self
            .hash(password, params.clone(), salt.to_vec(), right.len())
            .await?;
        let same = bool::from(output.as_slice().ct_eq(right.as_bytes()));
        Ok(match stored {
            Some(stored) if same && stored.is_weak() => Verdict::CorrectButWeak,
            Some(_) if same => Verdict::Correct,
            _ => Verdict::Wrong,
        })
    }
}

/// A stored hash that a password can be checked against.
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

/// Parses a stored hash. Returns `None` unless the text is an Argon2id hash with parameters within
/// the limits.
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

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[tokio::test]
    async fn memory_stays_allocated_after_a_hash_unless_it_is_larger_than_a_new_hash_needs() {
        let passwords = Passwords::new(&mut StdRng::seed_from_u64(0));
        let small = Params::new(8, 1, 1, Some(OUTPUT)).unwrap();
        let large = Params::new(PARAMS.m_cost() + 8, 1, 1, Some(OUTPUT)).unwrap();
        for (params, kept) in [(PARAMS, 19_456), (small, 8), (large, 0)] {
            let password = Password::parse("correct horse").unwrap();
            let hashed = passwords.hash(password, params, vec![0; SALT], OUTPUT);
            hashed.await.unwrap();
            assert_eq!(passwords.memory.lock().await.len(), kept);
        }
    }
}
