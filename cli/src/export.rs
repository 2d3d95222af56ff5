//! `tokenry user export`: prints what is stored about a user, from the table directly, without the
//! API.

use clap::Args;
use shared::{
    App, config,
    domain::id::UserId,
    service::directory::export_user,
    store::{client, identity::Identity},
};

use crate::{
    console::{
        failure::{Failure, Kind},
        output, user_id,
    },
    serve::said,
};

/// A user, and the table that contains the user
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// The user's id in the form ECOSYSTEM;NAME, such as 'C58521fd8a5d9b5cc21987501;bob'
    #[arg(value_parser = user_id)]
    user_id: UserId,
    /// The identity table
    #[arg(long, value_name = "NAME", env = config::IDENTITY_TABLE)]
    identity_table: String,
}

impl Export {
    /// Prints what is stored about the user.
    ///
    /// # Errors
    /// The error is one line with the cause.
    pub fn run(self) -> Result<(), Failure> {
        let failed = |cause: String| Failure::new(Kind::Other, cause);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let export = runtime.block_on(async {
            let environment = client::operator_environment().await;
            let client = client::dynamodb(&environment);
            let app = App::new(Identity::new(client, self.identity_table));
            export_user(&app, &self.user_id).await
        });
        if let Some(export) = export.map_err(|error| failed(said(error)))? {
            return output::print(&format!("{export:#}"));
        }
        let line = format!("User with id {} does not exist.", self.user_id);
        Err(Failure::new(Kind::NotFound, line))
    }
}
