//! Encrypts a message.
//!
//! A message is encrypted in blocks, which can run in parallel: in counter mode a block depends only on its position. A large
//! message uses all cores, but only one message at a time, because that takes some megabytes.

use std::{
    io,
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use aws_lc_rs::{
    cipher::{AES_256, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    iv::FixedLength,
    rand,
};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::{KeyError, PublicKey};
use crate::{
    OrganizationId,
    encoding::{BASE64, Encoded, Payload},
};

/// Separates the parts of a message.
pub(super) const SEPARATOR: u8 = b'$';
/// The length of a message's key in bytes.
pub(super) const KEY: usize = 32;
/// The length of a message's initial counter block in bytes.
pub(super) const IV: usize = 16;

/// How many bytes go through AES and then base64 at a time: few enough for the L1 cache.
const STEP: usize = 12 * 1024;
/// The size in bytes of a block that is encrypted on the current task; it takes some microseconds. All block sizes are multiples
/// of an AES block and of a base64 group.
const SMALL: usize = 48 * 1024;
/// The size in bytes of a block that gets its own task; it takes some hundred microseconds. (These tasks run on the runtime's workers.
/// Its threads for blocking work go to sleep between two blocks, which halves the speed.)
const LARGE: usize = 16 * SMALL;
/// The most blocks in progress; up to this limit there are two for each core, so that no core waits. Each takes about two megabytes.
const AT_ONCE: usize = 8;

/// How a message is divided into blocks.
struct Plan {
    block: usize,
    at_once: usize,
    /// The permit to use all cores, held until the message is dropped.
    cores: Option<OwnedSemaphorePermit>,
}

impl Plan {
    const ONE_BY_ONE: Self = Self { block: SMALL, at_once: 1, cores: None };

    fn of(length: u64, all_cores: &Arc<Semaphore>) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        if cores == 1 || length < (4 * LARGE) as u64 {
            return Self::ONE_BY_ONE;
        }
        match Arc::clone(all_cores).try_acquire_owned() {
            Ok(all) => Self { block: LARGE, at_once: (2 * cores).min(AT_ONCE), cores: Some(all) },
            Err(_) => Self::ONE_BY_ONE,
        }
    }
}

/// Why a message can't be encrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptionError {
    /// The organization has no public key on the server.
    #[error(
        "organization {0} has no public key at the server, so nothing can be encrypted for it. Its node uploads one \
         when it starts, or its administrator does"
    )]
    NoPublicKey(OrganizationId),
    /// The organization's public key on the server is invalid.
    #[error(
        "the public key that organization {organization} has at the server can't be used: {source}. Its \
         administrator must upload it again"
    )]
    PublicKey {
        /// The organization.
        organization: OrganizationId,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// The cryptographic library failed.
    #[error("the cryptographic library could not {0}")]
    Library(&'static str),
}

/// Encrypts a message for the organization that holds the private key of this public key. The length is known immediately.
///
/// # Errors
/// The cryptographic library fails, which is not expected.
pub fn encrypt(message: Payload, recipient: &PublicKey) -> Result<Encoded, EncryptionError> {
    encrypt_with_permit(message, recipient, std::future::ready(()))
}

/// Like [`encrypt`], but waits for the permit `turn` before encrypting the message's key, which happens when the message is read,
/// and drops the permit afterwards.
///
/// # Errors
/// The cryptographic library fails, which is not expected.
pub fn encrypt_with_permit<T>(message: Payload, recipient: &PublicKey, turn: T) -> Result<Encoded, EncryptionError>
where
    T: Future<Output: Send + 'static> + Send + 'static,
{
    static CORES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(1)));
    let plan = Plan::of(message.length(), &CORES);
    Ok(encrypt_with(message, recipient, MessageKey::random()?, plan, turn))
}

/// What one message is encrypted with.
pub(super) struct MessageKey {
    pub key: Arc<Zeroizing<[u8; KEY]>>,
    pub iv: [u8; IV],
}

impl MessageKey {
    /// A new one.
    pub fn random() -> Result<Self, EncryptionError> {
        let (mut key, mut iv) = (Zeroizing::new([0; KEY]), [0; IV]);
        let random = |_| EncryptionError::Library("get random numbers");
        rand::fill(&mut *key).map_err(random)?;
        rand::fill(&mut iv).map_err(random)?;
        Ok(Self { key: Arc::new(key), iv })
    }
}

/// The length of what comes before the encrypted bytes.
pub(super) fn head_length(recipient: &PublicKey) -> u64 {
    let characters = |bytes: usize| bytes.div_ceil(3) as u64 * 4;
    characters(recipient.encrypted_length()) + 1 + characters(IV) + 1
}

fn encrypt_with<T>(
    message: Payload,
    recipient: &PublicKey,
    MessageKey { key, iv }: MessageKey,
    plan: Plan,
    turn: T,
) -> Encoded
where
    T: Future<Output: Send + 'static> + Send + 'static,
{
    let length = head_length(recipient) + message.length().div_ceil(3) * 4;
    let head = head_of(recipient.clone(), key.clone(), iv, turn);
    let Plan { block, at_once, cores } = plan;
    let elsewhere = cores.is_some();
    let body = blocks(message.into_stream(), block)
        .enumerate()
        .map(move |(number, pieces)| {
            // The counter block is one large number, which wraps around.
            let counter = u128::from_be_bytes(iv).wrapping_add((number * (block / IV)) as u128);
            let key = Arc::clone(&key);
            let work = move |pieces: Vec<Bytes>| encrypt_block(&key, counter.to_be_bytes(), &pieces);
            async move {
                let pieces = pieces?;
                if !elsewhere {
                    return work(pieces);
                }
                tokio::spawn(async move { work(pieces) }).await.map_err(io::Error::other)?
            }
        })
        .buffered(at_once)
        .inspect(move |_| {
            let _ = &cores;
        });
    Encoded(Payload::new(length, stream::once(head).chain(body)))
}

/// Returns the message's encrypted key and its initial counter. This takes some hundred microseconds of CPU time, and a thousand
/// messages may be sent together, so it must not block the runtime's workers.
pub(super) async fn head_of(
    recipient: PublicKey,
    key: Arc<Zeroizing<[u8; KEY]>>,
    iv: [u8; IV],
    turn: impl Future<Output: Send + 'static>,
) -> io::Result<Bytes> {
    let turn = turn.await;
    let seal = move || {
        let _turn = turn;
        recipient.seal(&**key)
    };
    let sealed = tokio::task::spawn_blocking(seal).await.map_err(io::Error::other)?;
    let sealed = sealed.ok_or_else(|| io::Error::other("the cryptographic library could not encrypt a key"))?;
    Ok(Bytes::from(format!("{}${}$", BASE64.encode(sealed), BASE64.encode(iv))))
}

fn size(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// Regroups the bytes into blocks of the received pieces. Only the last block may be shorter.
fn blocks<S>(pieces: S, length: usize) -> impl Stream<Item = io::Result<Vec<Bytes>>> + Send
where
    S: Stream<Item = io::Result<Bytes>> + Send,
{
    stream::try_unfold((Box::pin(pieces), Bytes::new()), move |(mut pieces, mut rest)| async move {
        let (mut block, mut missing) = (Vec::new(), length);
        while missing > 0 {
            if rest.is_empty() {
                match pieces.try_next().await? {
                    Some(piece) => rest = piece,
                    None => break,
                }
            }
            let part = rest.split_to(rest.len().min(missing));
            missing -= part.len();
            block.push(part);
        }
        Ok((!block.is_empty()).then_some((block, (pieces, rest))))
    })
}

/// Encrypts a block that begins at this counter, and returns its base64.
fn encrypt_block(key: &[u8; KEY], counter: [u8; IV], pieces: &[Bytes]) -> io::Result<Bytes> {
    let failed = |_| io::Error::other("the cryptographic library could not encrypt");
    let key = UnboundCipherKey::new(&AES_256, key).map_err(failed)?;
    let counter = EncryptionContext::Iv128(FixedLength::from(counter));
    let mut cipher = StreamingEncryptingKey::less_safe_ctr(key, counter).map_err(failed)?;

    let mut text = Vec::with_capacity(size(pieces).div_ceil(3) * 4);
    // Encrypted bytes that are not yet encoded.
    let (mut encrypted, mut held) = ([0; STEP + IV + 2], 0);
    let mut encode = |bytes: &[u8]| {
        // Resized only now, so that the memory is in the L1 cache too.
        let written = text.len();
        text.resize(written + bytes.len().div_ceil(3) * 4, 0);
        BASE64.encode_slice(bytes, &mut text[written..]).map_err(io::Error::other)
    };
    for step in pieces.iter().flat_map(|piece| piece.chunks(STEP)) {
        held += cipher.update(step, &mut encrypted[held..]).map_err(failed)?.written().len();
        let whole = held / 3 * 3;
        encode(&encrypted[..whole])?;
        encrypted.copy_within(whole..held, 0);
        held -= whole;
    }
    encode(&encrypted[..held])?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;
    use crate::encryption::{PrivateKey, decrypt};

    /// Checks that aws-lc was compiled with the settings of `.cargo/config.toml`, by the symbol names in this test binary.
    #[test]
    fn random_numbers_are_seeded_without_timing_the_processor() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(memchr::memmem::find(&program, b"RAND_bytes").is_some(), "a program without names shows nothing");
        let name = ["jent", "entropy"].join("_");
        assert!(
            memchr::memmem::find(&program, name.as_bytes()).is_none(),
            "each process pays for {name}: is AWS_LC_SYS_NO_JITTER_ENTROPY set, and still the right name?"
        );
    }

    /// Also at the boundaries of blocks, and where the counter wraps around.
    #[tokio::test]
    async fn messages_of_several_blocks_come_back() {
        let private = Arc::new(PrivateKey::generate().unwrap());
        let bytes: Vec<u8> = (0..5 * LARGE + 1000).map(|number: usize| (number % 251) as u8 + 4).collect();
        for (block, piece) in [(SMALL, 1000), (SMALL, LARGE), (LARGE, 7 * STEP + 5), (LARGE, 2 * LARGE + 1)] {
            for length in [block - 1, block, block + 1, 2 * block, 4 * block, 5 * block + 1000] {
                let message = &bytes[..length];
                let pieces: Vec<_> = message.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                let payload = Payload::new(length as u64, stream::iter(pieces));
                let alone = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
                let plan = match block {
                    SMALL => Plan::ONE_BY_ONE,
                    _ => Plan { block, at_once: AT_ONCE, cores: Some(alone) },
                };
                let iv = [(length % 2 * 255) as u8; IV];
                let key = MessageKey { key: Arc::new(Zeroizing::new([7; KEY])), iv };
                let encoded = encrypt_with(payload, private.public(), key, plan, std::future::ready(()));
                let text = encoded.into_stream().map_err(|error| panic!("{error}"));
                let read: Vec<Bytes> = decrypt(text, Arc::clone(&private)).try_collect().await.unwrap();
                assert!(read.concat() == message, "{length} bytes in pieces of {piece}");
            }
        }
    }

    #[test]
    fn only_one_large_message_gets_all_cores() {
        let (key, cores) = (PrivateKey::generate().unwrap(), Arc::new(Semaphore::new(1)));
        let of = |length: usize| {
            let (payload, plan) = (Payload::new(length as u64, stream::empty()), Plan::of(length as u64, &cores));
            let message_key = MessageKey { key: Arc::new(Zeroizing::new([7; KEY])), iv: [0; IV] };
            encrypt_with(payload, key.public(), message_key, plan, std::future::ready(()))
        };
        let several = available_parallelism().is_ok_and(|cores| usize::from(cores) > 1);
        let (small, large) = (of(1000), of(100 * LARGE));
        assert_eq!(cores.available_permits(), usize::from(!several));
        drop((of(100 * LARGE), small));
        assert_eq!(cores.available_permits(), usize::from(!several));
        drop(large);
        assert_eq!(cores.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_breaks_the_message() {
        let key = PrivateKey::generate().unwrap();
        for given in [0, 10, LARGE, 5 * LARGE + 10] {
            let payload = Payload::new(6 * LARGE as u64, stream::iter([Ok(Bytes::from(vec![1; given]))]));
            let read = encrypt(payload, key.public()).unwrap().into_stream().try_collect::<Vec<_>>().await;
            assert!(read.unwrap_err().to_string().contains("before the announced length"));
        }
    }
}
