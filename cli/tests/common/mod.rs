//! Code that several tests of the command use.

use dynoxide::Database;
use tokio::net::TcpListener;

/// Starts a local server that implements DynamoDB, with this database. Returns the server's URL.
pub(crate) async fn serve(database: Database) -> String {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr();
    let endpoint = format!("http://{}", address.expect("the listener has an address"));
    tokio::spawn(dynoxide::server::serve_on(listener, database));
    endpoint
}
