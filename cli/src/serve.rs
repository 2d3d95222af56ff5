//! `tokenry serve`: serves all endpoints on one local port, with the database in this process.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io::{self, ErrorKind, IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use functions::{FUNCTIONS, Kind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shared::{
    App,
    config::Settings,
    domain::{
        deployment::Schema,
        error::Error,
        id::{AccountId, EcosystemId, UserId},
        owner::{Account, Owner, OwnerKey},
        token::{ExpiryType, NewToken, PlainToken},
    },
    log::{self, Format},
    service::{
        access::{Grant, MayWrite, UserSlot},
        deadline::Deadline,
        deployment,
        directory::{UserChange, create_account, create_ecosystem, put_user},
        migrate,
        sealing::ValueKey,
        tokens::mint,
        verify::Lookup,
    },
    store::{ephemeral::Ephemeral, identity::Identity, schema::create_tables},
};
use tokio::{net::TcpListener, sync::Semaphore, time::MissedTickBehavior};
use tracing::level_filters::LevelFilter;

use crate::{
    embedded::{self, EPHEMERAL, Embedded, IDENTITY},
    gateway::{self, Limits},
    migrate::new_token,
};

/// The name of the database file in the data directory.
const DATABASE: &str = "database.sqlite";
/// The name of the file with the value key, which encrypts the data keys. (The data keys encrypt
/// the values of e-mail tokens.)
const VALUE_KEY: &str = "value-key";
/// The name of the file with the token and the ids that the first start creates.
const START: &str = "start.json";
/// The name of the file with the new tokens that a migration creates. The file contains a JSON
/// object that maps account ids to tokens. It does not contain the account whose token is in the
/// file [`START`].
const NEW_TOKENS: &str = "new-account-tokens.json";
/// The name of the file that a running server locks. The system releases the lock when the process
/// ends for any reason.
const LOCK: &str = "lock";
/// The name of the file that keeps the data directory out of a Git repository.
const GITIGNORE: &str = ".gitignore";

/// How often expired items are deleted.
const SWEEP: Duration = Duration::from_mins(1);
/// The interval at which the scheduled functions run. `template.yaml` uses the same interval.
const TASKS: Duration = Duration::from_mins(5);
/// After a signal to stop, the command waits at most this long for requests in progress.
const GRACE: Duration = Duration::from_secs(3);
/// The number of open files that connections leave for the database, its keys and the log.
const FILES_IN_RESERVE: u64 = 64;

/// Serve every endpoint on this machine, with an embedded database
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// The port to listen on; with 0, the system chooses a free port
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The address to listen on. With an address that other machines can reach, everybody who can
    /// reach it can send requests, and nothing is encrypted
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The directory for the database and the first account's token
    #[arg(long, value_name = "DIR", default_value = ".tokenry")]
    data: PathBuf,
    /// Store nothing on disk: all data is lost when the command ends
    #[arg(long, conflicts_with = "data")]
    memory: bool,
    /// Print one line of JSON with url, accountToken, ecosystemId and userId
    #[arg(long)]
    json: bool,
    /// The log level: off, error, warn, info, debug, trace
    #[arg(long, env = shared::config::LOG, default_value = "info")]
    log: LevelFilter,
    /// How long the server waits for a slow client, in milliseconds. Tests set a short time
    #[arg(long, hide = true, value_name = "MILLISECONDS")]
    client_patience: Option<u64>,
}

/// The account token, the ecosystem and the user that the first start creates. With this data, the
/// user of the command can send a first request immediately.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    account_token: String,
    ecosystem_id: EcosystemId,
    user_id: UserId,
}

/// Serves until ctrl-C or SIGTERM.
///
/// # Errors
/// The directory, the database, the port or a setting is unusable. The error is one line with the
/// cause.
pub async fn run(args: Serve) -> Result<(), String> {
    let format = if io::stderr().is_terminal() {
        Format::Pretty
    } else {
        Format::Json
    };
    log::start(args.log, format);

    // The command checks the settings and the port before it creates any file. If a check fails,
    // the command leaves no files behind.
    let settings = Settings::from_variables(|name| std::env::var(name).ok())?;
    let listener = listen(SocketAddr::new(args.host, args.port)).await?;
    let url = url(listener.local_addr().map_err(|e| e.to_string())?);
    let limits = limits(&args);

    // The lock is released when this variable is dropped.
    let (database, _lock) = if args.memory {
        (Embedded::in_memory()?, None)
    } else {
        let (database, lock) = open(&args.data).map_err(|error| {
            format!("cannot use the directory {}: {error}", args.data.display())
        })?;
        (database, Some(lock))
    };
    let client = embedded::client(database.clone());
    create_tables(&client, IDENTITY, EPHEMERAL)
        .await
        .map_err(said)?;
    let ephemeral = Ephemeral::new(client.clone(), EPHEMERAL.to_owned());
    let app = App::new(Identity::new(client, IDENTITY.to_owned()));
    let value_key = if args.memory {
        ValueKey::in_memory(&mut *app.rng())
    } else {
        ValueKey::file(args.data.join(VALUE_KEY))
    };
    let app = app
        .with_ephemeral(Some(ephemeral))
        .with_value_key(Some(value_key))
        .with_settings(settings);
    let app = Arc::new(app);

    let start = if args.memory {
        let (start, account) = first_start(&app).await.map_err(said)?;
        set_first_account(&app, &account.id).await?;
        start
    } else {
        migrate(&app, &args.data).await?;
        kept_start(&app, &args.data.join(START)).await?
    };

    // The handlers must exist before the announcement, because a signal may arrive right after it.
    let stop = asked_to_stop();
    announce(&args, &url, &start);
    if !is_loopback(&args) {
        tracing::warn!(
            host = %args.host,
            "other machines can send requests to this server. HTTP does not encrypt tokens and \
             passwords, and the server does not check the host names of requests"
        );
    }

    tokio::spawn(sweep(database));
    tokio::spawn(run_tasks(app.clone()));
    let stopping = Arc::new(tokio::sync::Notify::new());
    let stopped = stopping.clone();
    let mut serving = tokio::spawn(gateway::run(app, listener, limits, async move {
        stopped.notified().await;
    }));
    let signal = tokio::select! {
        ended = &mut serving => return ended.map_err(|e| e.to_string()),
        signal = stop => signal,
    };
    stopping.notify_one();
    // Because of the timeout, the command ends even if a client keeps its connection busy.
    let _ = tokio::time::timeout(GRACE, serving).await;
    tracing::info!("stopped by {signal}");
    Ok(())
}

/// Listens on an address. An error names the next step.
async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied => {
                ". Choose another port with --port PORT, or a free port with --port 0"
            }
            ErrorKind::AddrNotAvailable => {
                ". Choose an address of this machine with --host ADDRESS"
            }
            _ => "",
        };
        format!("cannot listen on {address}: {error}{hint}")
    })
}

/// Returns the URL with which this machine reaches a server that listens on this address.
fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// Raises the number of files that this process may open to the maximum that the system allows, and
/// returns what the gateway allows its clients.
fn limits(args: &Serve) -> Limits {
    let default = Limits::default();
    let connections = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => files.saturating_sub(FILES_IN_RESERVE).max(1),
        Err(_) => default.connections as u64,
    };
    Limits {
        patience: args
            .client_patience
            .map_or(default.patience, Duration::from_millis),
        // A semaphore of tokio has at most this number of permits.
        connections: usize::try_from(connections)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS),
        any_host: !is_loopback(args),
    }
}

/// Returns whether only this machine can reach the server.
fn is_loopback(args: &Serve) -> bool {
    // For example, ::ffff:127.0.0.1 is 127.0.0.1.
    args.host.to_canonical().is_loopback()
}

/// Locks the data directory, prepares its files, and opens its database. The caller must keep the
/// lock.
fn open(directory: &Path) -> Result<(Embedded, File), String> {
    let io = |error: io::Error| error.to_string();
    private_directory(directory).map_err(io)?;
    let lock = lock(directory)?;
    keep_out_of_git(directory).map_err(io)?;
    private_files(directory).map_err(io)?;
    Ok((Embedded::open(&directory.join(DATABASE))?, lock))
}

/// Locks the data directory. Two servers on one directory would miss each other's changes, because
/// each of them remembers what it has read.
fn lock(directory: &Path) -> Result<File, String> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(LOCK))
        .map_err(|error| error.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(
            "another server uses it. Stop that server, or choose another directory with --data DIR"
                .to_owned(),
        ),
        Err(TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// Makes Git ignore a data directory. Does nothing if the directory contains files that are not the
/// server's, because Git would ignore these files too.
fn keep_out_of_git(directory: &Path) -> io::Result<()> {
    let own = own_files();
    for entry in directory.read_dir()? {
        let name = entry?.file_name();
        if name == GITIGNORE || !own.iter().any(|own| name == own.as_str()) {
            return Ok(());
        }
    }
    std::fs::write(directory.join(GITIGNORE), "*\n")
}

/// Returns the names of the server's files in the data directory.
fn own_files() -> Vec<String> {
    let beside = ["-wal", "-shm", "-journal"].map(|suffix| format!("{DATABASE}{suffix}"));
    [DATABASE, VALUE_KEY, START, NEW_TOKENS, LOCK, GITIGNORE]
        .map(str::to_owned)
        .into_iter()
        .chain(beside)
        .collect()
}

/// Creates a directory that only its owner can access. Does nothing if the directory exists.
fn private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Creates the database file if it does not exist, and sets the mode 0600 for every file of the
/// server in this directory. SQLite creates its other files with the mode of the database file.
#[cfg(unix)]
fn private_files(directory: &Path) -> io::Result<()> {
    use std::{
        fs::{OpenOptions, Permissions, set_permissions},
        os::unix::fs::{OpenOptionsExt, PermissionsExt},
    };

    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(directory.join(DATABASE))?;
    for file in own_files() {
        match set_permissions(directory.join(file), Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn private_files(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Creates an account with a token, an ecosystem, and the user `demo`.
async fn first_start(app: &App) -> Result<(Start, Account), Error> {
    let right = MayWrite::of_operator();
    deployment::create_if_none(app, right).await?;
    let account = create_account(app, right).await?;
    let wanted = NewToken {
        expiry_type: ExpiryType::Infinite,
        ..NewToken::default()
    };
    let (_, token) = mint(app, Grant::of_operator(&account, wanted)).await?;
    let ecosystem = create_ecosystem(app, right, &account.id).await?;
    let start = Start {
        account_token: token.reveal().to_owned(),
        user_id: create_demo(app, &account.id, &ecosystem.id).await?,
        ecosystem_id: ecosystem.id,
    };
    Ok((start, account))
}

/// Creates the user `demo` in an ecosystem.
async fn create_demo(
    app: &App,
    account: &AccountId,
    ecosystem: &EcosystemId,
) -> Result<UserId, Error> {
    let user_id = UserId::parse(&format!("{ecosystem};demo")).expect("demo is a valid name");
    let slot = UserSlot::of_new(&user_id, account);
    put_user(app, MayWrite::of_operator(), slot, UserChange::default()).await?;
    Ok(user_id)
}

/// Migrates the data of an earlier release.
async fn migrate(app: &App, directory: &Path) -> Result<(), String> {
    let right = MayWrite::of_operator();
    let deployment = deployment::create_if_none(app, right).await.map_err(said)?;
    if deployment.schema == Schema::One {
        end_untagged_tokens(app, directory).await?;
    }
    if deployment.schema < Schema::CURRENT {
        // If an earlier start was interrupted during the clean-up, unused records remain.
        migrate::clean_up(app, right).await.map_err(said)?;
        migrate::lists::list_all(app, right).await.map_err(said)?;
        let (old, new) = (u32::from(deployment.schema), u32::from(Schema::CURRENT));
        tracing::info!("the stored data was migrated from version {old} to version {new}");
    }
    Ok(())
}

/// Migrates data from schema version 1 to version 2. All tokens of earlier releases end. Replaces
/// the account token in `start.json`. Writes a new token for every other account to
/// `new-account-tokens.json`.
async fn end_untagged_tokens(app: &App, directory: &Path) -> Result<(), String> {
    let right = MayWrite::of_operator();
    let file = directory.join(START);
    let mut start = read_json::<Start>(&file)?;
    let started = start.as_ref().map(|start| &start.account_token);
    let owner = started.and_then(|token| PlainToken::parse(token).map(|token| token.owner()));
    let is_started = |account: &Account| Some(OwnerKey::from(&account.id)) == owner;
    let choose = |accounts: &[Account], _| {
        let started = accounts.iter().find(|account| is_started(account));
        let first = started
            .or_else(|| accounts.first())
            .map(|first| first.id.clone());
        first.ok_or(Error::Conflict("there is no account"))
    };
    let accounts = migrate::prepare(app, right, choose).await.map_err(said)?;
    let others = directory.join(NEW_TOKENS);
    let mut new = read_json::<BTreeMap<String, String>>(&others)?.unwrap_or_default();
    let deployment = app.deployment().await.map_err(said)?;
    let has_tag = |token: &String| {
        PlainToken::parse(token).is_some_and(|token| deployment.created_tag_of(&token))
    };
    for account in &accounts {
        match &mut start {
            Some(start) if is_started(account) => {
                if !has_tag(&start.account_token) {
                    start.account_token = new_token(app, account).await.map_err(said)?;
                    write_json(&file, start)?;
                }
            }
            _ => {
                let id = account.id.to_string();
                if !new.get(&id).is_some_and(has_tag) {
                    new.insert(id, new_token(app, account).await.map_err(said)?);
                    write_json(&others, &new)?;
                }
            }
        }
    }
    migrate::finish(app, right).await.map_err(said)?;
    tracing::warn!(
        "an earlier release created this data: it was migrated, and all earlier tokens are invalid \
         now. {START} contains a new account token"
    );
    if !new.is_empty() {
        tracing::warn!("{NEW_TOKENS} contains new tokens of the other accounts");
    }
    Ok(())
}

/// Returns the stored token and ids if the token is still valid. Otherwise creates and stores a new
/// token and new ids. If the ecosystem or the user was deleted, creates and stores a new one.
async fn kept_start(app: &App, file: &Path) -> Result<Start, String> {
    let stored = read_json::<Start>(file)?;
    let is_first = stored.is_none()
        && app
            .deployment()
            .await
            .map_err(said)?
            .first_account
            .is_none();
    if let Some(mut start) = stored
        && let Some(token) = app.token(&start.account_token).await.map_err(said)?
    {
        let found = Lookup::new(app).token(&token).read().await.map_err(said)?;
        if let Some(verified) = found.verified(&token) {
            set_first_account(app, &verified.account).await?;
            if replace_deleted(app, &verified.account, &mut start)
                .await
                .map_err(said)?
            {
                write_json(file, &start)?;
            }
            return Ok(start);
        }
    }
    let (start, account) = first_start(app).await.map_err(said)?;
    write_json(file, &start)?;
    set_first_account(app, &account.id).await?;
    if !is_first {
        tracing::warn!(
            account = account.id.as_str(),
            "{START} had no valid account token: it contains the token of a new account now. \
             The data of other accounts still exists, and their valid tokens still work"
        );
    }
    Ok(start)
}

/// If the ecosystem or the user of `start` was deleted, creates a new one. Returns whether `start`
/// has changed.
async fn replace_deleted(app: &App, account: &AccountId, start: &mut Start) -> Result<bool, Error> {
    let has_ecosystem = match app.identity().owner((&start.ecosystem_id).into()).await? {
        Some(Owner::Ecosystem(ecosystem)) => ecosystem.id == start.ecosystem_id,
        _ => false,
    };
    if has_ecosystem {
        let user = app.identity().owner((&start.user_id).into()).await?;
        if matches!(user, Some(Owner::User(user)) if user.id == start.user_id) {
            return Ok(false);
        }
    } else {
        let ecosystem = create_ecosystem(app, MayWrite::of_operator(), account).await?;
        start.ecosystem_id = ecosystem.id;
    }
    start.user_id = create_demo(app, account, &start.ecosystem_id).await?;
    tracing::warn!(
        "{START} names a new {} now, because the earlier one was deleted",
        if has_ecosystem {
            "user"
        } else {
            "ecosystem and a new user"
        }
    );
    Ok(true)
}

/// Makes the account in `start.json` the first account, so that its users can log in without an
/// ecosystem id.
async fn set_first_account(app: &App, account: &AccountId) -> Result<(), String> {
    let set = deployment::set_first_account(app, MayWrite::of_operator(), account);
    set.await.map_err(said)
}

fn cannot_use(file: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot use {}: {error}", file.display())
}

/// Reads a JSON file. Returns `None` if the file does not exist.
fn read_json<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, String> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| cannot_use(file, &error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_use(file, &error)),
    }
}

/// Replaces a JSON file. Only the file's owner can read the file.
fn write_json(file: &Path, value: &impl Serialize) -> Result<(), String> {
    let directory = file.parent().unwrap_or(Path::new("."));
    // The temporary file has mode 0600, and the rename is atomic.
    let mut new =
        tempfile::NamedTempFile::new_in(directory).map_err(|error| cannot_use(file, &error))?;
    serde_json::to_writer(&mut new, value).map_err(|error| cannot_use(file, &error))?;
    new.persist(file)
        .map_err(|error| cannot_use(file, &error))?;
    Ok(())
}

/// Prints the address and an example request. Ignores errors, because standard output may be
/// closed.
fn announce(args: &Serve, url: &str, start: &Start) {
    let mut out = io::stdout().lock();
    let Start {
        account_token,
        ecosystem_id,
        user_id,
    } = start;
    let _ = if args.json {
        let line = serde_json::json!({
            "url": url,
            "accountToken": account_token,
            "ecosystemId": ecosystem_id,
            "userId": user_id,
        });
        writeln!(out, "{line}")
    } else {
        let kept = if args.memory {
            "nothing is stored".to_owned()
        } else {
            format!("data in {}", args.data.display())
        };
        writeln!(
            out,
            "Tokenry listens on {url} ({kept}). Open this address in a browser to read and try the API.\n\
             Mint a token for the user demo:\n\n  \
             curl -X POST -H 'Authorization: {account_token}' '{url}/api/users/{user_id}/tokens'\n"
        )
    };
    let _ = out.flush();
}

/// Deletes expired items periodically, as DynamoDB does.
async fn sweep(database: Embedded) {
    let mut timer = tokio::time::interval(SWEEP);
    loop {
        timer.tick().await;
        let database = database.clone();
        match tokio::task::spawn_blocking(move || database.sweep()).await {
            Ok(Ok(swept)) => tracing::debug!(swept, "expired items deleted"),
            Ok(Err(cause)) => tracing::warn!(cause, "expired items could not be deleted"),
            Err(_) => return,
        }
    }
}

/// Runs the scheduled functions, as EventBridge does.
async fn run_tasks(app: Arc<App>) {
    let mut timer = tokio::time::interval(TASKS);
    // If a run takes longer than the interval, the runs in between are left out.
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        for function in FUNCTIONS {
            if let Kind::Schedule { task } = &function.kind {
                // The function logs its errors.
                let _ = task(&app, Deadline::after(TASKS)).await;
            }
        }
    }
}

/// Starts to wait for ctrl-C and SIGTERM. The returned future yields the signal's name.
fn asked_to_stop() -> impl Future<Output = &'static str> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
        async move {
            tokio::select! {
                _ = interrupt.recv() => "ctrl-C",
                _ = terminate.recv() => "SIGTERM",
            }
        }
    }
    #[cfg(not(unix))]
    async {
        let _ = tokio::signal::ctrl_c().await;
        "ctrl-C"
    }
}

/// Returns the text of an error for the user of the command, in one line.
pub(crate) fn said(error: Error) -> String {
    match error {
        Error::Unavailable { cause } | Error::Internal { cause } => cause,
        Error::NotFound(text) => text,
        Error::Conflict(text) => text.to_owned(),
        other => format!("{other:?}"),
    }
}
