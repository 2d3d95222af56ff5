//! Reads and writes items directly in the tables, without the API. So a test can store values that
//! the API never writes.

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use shared::{
    App,
    domain::{
        id::UserId,
        owner::{EcosystemSettings, Owner, OwnerKey, User},
        token::TokenOwner,
    },
    store::{
        identity::{Key, PARTITION_KEY, SORT_KEY},
        item::Item,
    },
};

use crate::Service;

impl Service {
    /// Stores another schema version in the record of the deployment.
    ///
    /// # Panics
    /// If the record cannot be changed.
    pub async fn set_schema(&self, version: u32) {
        let version = AttributeValue::N(version.to_string());
        self.set(Key::deployment(), "schema", version).await;
    }

    /// Returns another execution environment, which has just read the record of the deployment.
    ///
    /// # Panics
    /// If the record cannot be read.
    pub async fn environment_of_stored_version(&self) -> App {
        let deployment = self.app.identity().deployment().await;
        self.database.take_calls();
        let deployment = deployment.expect("the record of the deployment is read");
        self.another_environment().with_deployment(Some(deployment))
    }

    /// Returns the number of items of tokens in the identity table. The items of revoked tokens are
    /// counted too.
    ///
    /// # Panics
    /// If the table cannot be read.
    pub async fn count_tokens(&self) -> usize {
        let scan = self
            .client
            .scan()
            .table_name(&self.tables.identity)
            .filter_expression("begins_with(#item, :token)")
            .expression_attribute_names("#item", SORT_KEY)
            .expression_attribute_values(":token", AttributeValue::S("token#".to_owned()))
            .send();
        let found = scan.await.expect("the table is read").items().len();
        self.database.take_calls();
        found
    }

    /// Returns all items of the identity table.
    ///
    /// # Panics
    /// If the table cannot be read.
    pub async fn identity_items(&self) -> Vec<Item> {
        let (mut items, mut start) = (Vec::new(), None);
        loop {
            let call = self.client.scan().table_name(&self.tables.identity);
            let page = call.set_exclusive_start_key(start).send().await;
            let page = page.expect("the table is read");
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() {
                self.database.take_calls();
                return items;
            }
        }
    }

    /// Replaces the stored hash of a user's password.
    pub async fn set_password_hash(&self, user: &str, hash: &str) {
        let key = Key::password(key_of(user));
        self.set(key, "password_hash", AttributeValue::S(hash.to_owned()))
            .await;
    }

    /// Gives a user the password of another user, without computing a hash.
    ///
    /// # Panics
    /// If the other user has no password.
    pub async fn copy_password(&self, from: &str, to: &str) {
        let hash = self.password_hash(from).await;
        self.set_password_hash(to, &hash).await;
        let incarnation = self.owner(to).await.state.incarnation;
        let incarnation = serde_dynamo::to_attribute_value(incarnation);
        let key = Key::password(key_of(to));
        let incarnation = incarnation.expect("the value can be written");
        self.set(key, "born", incarnation).await;
    }

    /// Returns the stored hash of a user's password.
    ///
    /// # Panics
    /// If the user has no password.
    pub async fn password_hash(&self, user: &str) -> String {
        let key = serde_dynamo::to_item(Key::password(key_of(user)))
            .expect("the key can be written as an item");
        let call = self.client.get_item().table_name(&self.tables.identity);
        let read = call.set_key(Some(key)).send().await;
        self.database.take_calls();
        let item = read
            .expect("the item is read")
            .item
            .expect("the user has a password");
        item["password_hash"]
            .as_s()
            .expect("the hash is a string")
            .clone()
    }

    /// Returns all items of the ephemeral table.
    ///
    /// # Panics
    /// If the table cannot be read.
    pub async fn ephemeral_items(&self) -> Vec<Item> {
        let scan = self
            .client
            .scan()
            .table_name(&self.tables.ephemeral)
            .send()
            .await;
        self.database.take_calls();
        scan.expect("the table is read").items.unwrap_or_default()
    }

    /// Sets whether a user is active. Changes nothing else in the user's record.
    pub async fn set_active(&self, user: &str, active: bool) {
        let key = Key::owner(key_of(user));
        self.set(key, "active", AttributeValue::Bool(active)).await;
    }

    /// Replaces the id in a user's record.
    pub async fn set_owner_id(&self, user: &str, id: &str) {
        let key = Key::owner(key_of(user));
        self.set(key, "id", AttributeValue::S(id.to_owned())).await;
    }

    /// Replaces a token's scope.
    pub async fn set_scope(&self, owner: impl Into<OwnerKey>, id: &str, scope: &str) {
        let key = token_key(owner, id);
        self.set(key, "scope", AttributeValue::S(scope.to_owned()))
            .await;
    }

    /// Replaces the encrypted value of a user's e-mail token with bytes that cannot be decrypted.
    pub async fn change_email_token_value(&self, user: &str) {
        let key = Key::email_token(key_of(user));
        let bytes = AttributeValue::B(Blob::new([0; 100]));
        self.set(key, "sealed", bytes).await;
    }

    /// Returns the stored item of a token, even if the token was revoked.
    ///
    /// # Panics
    /// If the item cannot be read.
    pub async fn token_item(&self, owner: impl Into<OwnerKey>, id: &str) -> Option<Item> {
        let key =
            serde_dynamo::to_item(token_key(owner, id)).expect("the key can be written as an item");
        let call = self.client.get_item().table_name(&self.tables.identity);
        let read = call.set_key(Some(key)).consistent_read(true).send().await;
        self.database.take_calls();
        read.expect("the item is read").item
    }

    /// Sets an attribute of a token's item.
    pub async fn set_of_token(
        &self,
        owner: impl Into<OwnerKey>,
        id: &str,
        name: &str,
        value: AttributeValue,
    ) {
        self.set(token_key(owner, id), name, value).await;
    }

    /// Stores an item in the identity table.
    ///
    /// # Panics
    /// If the item cannot be written.
    pub async fn put_identity_item(&self, item: Item) {
        let call = self.client.put_item().table_name(&self.tables.identity);
        let written = call.set_item(Some(item)).send().await;
        written.expect("the item is written");
        self.database.take_calls();
    }

    /// Stores items in the identity table.
    ///
    /// # Panics
    /// If an item cannot be written.
    pub async fn put_identity_items(&self, items: Vec<Item>) {
        for items in items.chunks(25) {
            let puts = items.iter().map(|item| {
                let put = PutRequest::builder().set_item(Some(item.clone()));
                let put = put.build().expect("the put has an item");
                WriteRequest::builder().put_request(put).build()
            });
            let call = self.client.batch_write_item();
            let call = call.request_items(&self.tables.identity, puts.collect());
            call.send().await.expect("the items are written");
        }
        self.database.take_calls();
    }

    /// Deletes these items from the identity table.
    ///
    /// # Panics
    /// If an item cannot be deleted.
    pub async fn delete_identity_items(&self, items: &[Item]) {
        for item in items {
            let call = self.client.delete_item().table_name(&self.tables.identity);
            let call = call.key(PARTITION_KEY, item[PARTITION_KEY].clone());
            let deleted = call.key(SORT_KEY, item[SORT_KEY].clone()).send().await;
            deleted.expect("the item is deleted");
        }
        self.database.take_calls();
    }

    /// Replaces a token's item with the mark that the release before this one wrote when it revoked
    /// a token.
    ///
    /// # Panics
    /// If the item cannot be written.
    pub async fn put_old_mark(&self, owner: impl Into<OwnerKey>, id: &str) {
        let mut item: Item =
            serde_dynamo::to_item(token_key(owner, id)).expect("the key can be written as an item");
        let expires_at = self.app.now().seconds().plus(3600).0.to_string();
        item.insert("expires_at".to_owned(), AttributeValue::N(expires_at));
        self.put_identity_item(item).await;
    }

    /// Removes attributes from a token's item, as if the release before this one had written it.
    ///
    /// # Panics
    /// If the item does not exist or cannot be written.
    pub async fn forget_of_token(&self, owner: impl Into<OwnerKey>, id: &str, names: &[&str]) {
        let mut item = self
            .token_item(owner, id)
            .await
            .expect("the token has an item");
        for name in names {
            item.remove(*name);
        }
        self.put_identity_item(item).await;
    }

    /// Removes an attribute from all short codes.
    ///
    /// # Panics
    /// If a code cannot be written.
    pub async fn forget_of_codes(&self, name: &str) {
        for mut item in self.ephemeral_items().await {
            item.remove(name);
            let call = self.client.put_item().table_name(&self.tables.ephemeral);
            let written = call.set_item(Some(item)).send().await;
            written.expect("the code is written");
        }
        self.database.take_calls();
    }

    async fn set(&self, key: Key, name: &str, value: AttributeValue) {
        self.client
            .update_item()
            .table_name(&self.tables.identity)
            .set_key(Some(
                serde_dynamo::to_item(key).expect("the key can be written as an item"),
            ))
            .update_expression("SET #name = :value")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", value)
            .send()
            .await
            .expect("the item is written");
        self.database.take_calls();
    }

    /// Returns a user in its current state.
    ///
    /// # Panics
    /// If the user does not exist.
    pub async fn owner(&self, user: &str) -> User {
        let read = self.app.identity().owner(key_of(user)).await;
        self.database.take_calls();
        let owner = read.expect("the user is read");
        owner
            .and_then(Owner::into_user)
            .expect("the owner is a user")
    }

    /// Returns a user as the owner of a new token, without a limit of tokens.
    pub async fn token_owner(&self, user: &str) -> TokenOwner {
        TokenOwner::of_user(&self.owner(user).await, &EcosystemSettings::default())
    }

    /// Returns the stored item of a user's record.
    ///
    /// # Panics
    /// If the item cannot be read.
    pub async fn owner_item(&self, user: &str) -> Option<Item> {
        let key = serde_dynamo::to_item(Key::owner(key_of(user)))
            .expect("the key can be written as an item");
        let call = self.client.get_item().table_name(&self.tables.identity);
        let read = call
            .set_key(Some(key))
            .send()
            .await
            .expect("the item is read");
        self.database.take_calls();
        read.item
    }

    /// Returns the stored items of a user's tokens, in order of creation.
    ///
    /// # Panics
    /// If the items cannot be read.
    pub async fn token_items(&self, user: &str) -> Vec<Item> {
        let key = Key::owner(key_of(user));
        let mut key: Item = serde_dynamo::to_item(key).expect("the key can be written as an item");
        let owner = key
            .remove(PARTITION_KEY)
            .expect("the key has a partition key");
        let (mut items, mut start) = (Vec::new(), None);
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.tables.identity)
                .key_condition_expression("#owner = :owner AND begins_with(#item, :token)")
                .expression_attribute_names("#owner", PARTITION_KEY)
                .expression_attribute_names("#item", SORT_KEY)
                .expression_attribute_values(":owner", owner.clone())
                .expression_attribute_values(":token", AttributeValue::S("token#".to_owned()))
                .set_exclusive_start_key(start)
                .send()
                .await
                .expect("the items are read");
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() {
                self.database.take_calls();
                return items;
            }
        }
    }
}

fn token_key(owner: impl Into<OwnerKey>, id: &str) -> Key {
    Key {
        owner: owner.into(),
        item: format!("token#{id}"),
    }
}

fn key_of(user: &str) -> OwnerKey {
    (&UserId::parse(user).expect("the text is the id of a user")).into()
}
