//! The `tokenry` command's parts: the local gateway, the embedded database, what `serve` and
//! `bootstrap` do, and the console of the API.

pub mod bootstrap;
pub mod console;
pub mod embedded;
pub mod gateway;
mod page;
pub mod serve;

/// The SDK allocates much, and the embedded database more: this one answers 1.6 times as many
/// requests as the system's (`cargo bench -p tests --bench gateway`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
