//! The limits that DynamoDB has and an embedded database does not have. A test requests them with
//! [`Database::limit_partitions`](crate::Database::limit_partitions).
//!
//! - Each partition key of a table or an index serves [`READS`] read units and [`WRITES`] write
//!   units in a second of the test's clock. DynamoDB's reserve for short bursts (burst capacity) is
//!   not simulated.
//! - Each call takes time, by tokio's clock. While a write transaction is in progress, other
//!   transactions that use one of its items are cancelled, and single writes of these items are
//!   rejected. A read transaction is also cancelled while another write of one of its items is in
//!   progress.
//!
//! The tables are on-demand tables, so the error codes are those of on-demand tables:
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>

use std::{collections::HashMap, time::Duration};

use dynoxide::types::{Item, item_size, read_capacity_units, write_capacity_units};
use serde_json::{Map, Value, json};
use shared::store::{
    ephemeral,
    identity::{EMAIL_ACCOUNT, PARTITION_KEY, SORT_KEY},
};
use tokenry::embedded::EPHEMERAL;

use crate::TestClock;

/// The read units that a partition serves in a second. A consistent read of up to 4 KB is one unit.
pub const READS: f64 = 3000.0;
/// The write units that a partition serves in a second. A write of up to 1 KB is one unit.
pub const WRITES: f64 = 1000.0;

/// How long a call takes. A transaction takes twice as long.
pub const LATENCY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    Read,
    Write,
}

/// A partition of a table, or of its index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Partition {
    table: String,
    is_index: bool,
    key: String,
}

/// The units that a call uses in one partition.
type Cost = (Partition, Direction, f64);

/// The part of a call that concerns one item.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    table: String,
    direction: Direction,
    /// The item's key attributes.
    pub(crate) key: Value,
    /// The new item of a put.
    new: Option<Value>,
    /// The item before the call, if it exists.
    pub(crate) stored: Option<Value>,
    /// The cost of this part, divided by the cost of a consistent read or of a write outside a
    /// transaction.
    factor: f64,
}

impl Part {
    fn new(table: &str, direction: Direction, key: &Value, factor: f64) -> Self {
        Self {
            table: table.to_owned(),
            direction,
            key: key_of(table, key),
            new: None,
            stored: None,
            factor,
        }
    }

    fn put(table: &str, item: &Value, factor: f64) -> Self {
        Self {
            new: Some(item.clone()),
            ..Self::new(table, Direction::Write, item, factor)
        }
    }

    /// Returns the request that reads this part's item.
    pub(crate) fn read(&self) -> Value {
        json!({ "TableName": self.table, "Key": self.key, "ConsistentRead": true })
    }

    /// Returns the text that identifies this part's item.
    pub(crate) fn item(&self) -> String {
        format!("{} {}", self.table, self.key)
    }

    fn partition(&self) -> Partition {
        let name = key_attributes(&self.table)[0];
        Partition {
            table: self.table.clone(),
            is_index: false,
            key: self.key[name].to_string(),
        }
    }

    /// Returns the units of this part. The size of a write is the size of the stored item or of the
    /// new item, whichever is larger. If one of these items is in the index, the part also writes
    /// the index.
    fn costs(&self) -> Vec<Cost> {
        let items = [self.stored.as_ref(), self.new.as_ref()];
        let sizes = items.into_iter().flatten().map(size);
        let size = sizes.max().unwrap_or_default();
        let units = match self.direction {
            Direction::Read => read_capacity_units(size),
            Direction::Write => write_capacity_units(size),
        };
        let mut costs = vec![(self.partition(), self.direction, units * self.factor)];
        if self.direction == Direction::Write {
            let accounts = items.into_iter().flatten();
            let accounts = accounts.filter_map(|item| item.get(EMAIL_ACCOUNT));
            let mut keys: Vec<_> = accounts.map(Value::to_string).collect();
            keys.dedup();
            costs.extend(keys.into_iter().map(|key| {
                let index = Partition {
                    table: self.table.clone(),
                    is_index: true,
                    key,
                };
                (index, Direction::Write, write_capacity_units(size))
            }));
        }
        costs
    }
}

fn size(item: &Value) -> usize {
    let item: Item = serde_json::from_value(item.clone()).expect("the item is a DynamoDB item");
    item_size(&item)
}

/// Returns the names of a table's key attributes. The first one is the partition key.
fn key_attributes(table: &str) -> &[&str] {
    if table.starts_with(EPHEMERAL) {
        &[ephemeral::PARTITION_KEY]
    } else {
        &[PARTITION_KEY, SORT_KEY]
    }
}

/// Returns the key of an item.
fn key_of(table: &str, item: &Value) -> Value {
    let names = key_attributes(table).iter();
    let key = names.map(|name| ((*name).to_owned(), item[*name].clone()));
    Value::Object(key.collect::<Map<_, _>>())
}

/// What a call does with its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    TransactionalRead,
    TransactionalWrite,
    BatchRead,
    BatchWrite,
}

impl Call {
    /// Returns what an operation does, or `None` if the operation concerns whole tables. Such an
    /// operation has no limit.
    pub(crate) fn of(operation: &str) -> Option<Self> {
        Some(match operation {
            "GetItem" | "Query" => Self::Read,
            "PutItem" | "UpdateItem" | "DeleteItem" => Self::Write,
            "TransactGetItems" => Self::TransactionalRead,
            "TransactWriteItems" => Self::TransactionalWrite,
            "BatchGetItem" => Self::BatchRead,
            "BatchWriteItem" => Self::BatchWrite,
            _ => return None,
        })
    }

    /// Returns how long the call takes.
    pub(crate) fn latency(self) -> Duration {
        match self {
            Self::TransactionalRead | Self::TransactionalWrite => LATENCY * 2,
            _ => LATENCY,
        }
    }

    /// Returns the parts of the request, in order.
    pub(crate) fn parts(self, request: &Value) -> Vec<Part> {
        let consistency = |read: &Value| match read["ConsistentRead"] {
            Value::Bool(true) => 1.0,
            _ => 0.5,
        };
        let table = |of: &Value| of["TableName"].as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let tables = request["RequestItems"].as_object().into_iter().flatten();
        match self {
            Self::Read if request["Key"].is_null() => vec![],
            Self::Read => vec![Part::new(
                &table(request),
                Direction::Read,
                &request["Key"],
                consistency(request),
            )],
            Self::Write if request["Item"].is_null() => vec![Part::new(
                &table(request),
                Direction::Write,
                &request["Key"],
                1.0,
            )],
            Self::Write => vec![Part::put(&table(request), &request["Item"], 1.0)],
            Self::TransactionalRead | Self::TransactionalWrite => {
                let parts = list(&request["TransactItems"]).into_iter();
                let part = |part: Value| {
                    let (action, of) = part.as_object()?.iter().next()?;
                    let table = table(of);
                    Some(match action.as_str() {
                        "Get" => Part::new(&table, Direction::Read, &of["Key"], 2.0),
                        "Put" => Part::put(&table, &of["Item"], 2.0),
                        // A `ConditionCheck` costs as much as a write.
                        _ => Part::new(&table, Direction::Write, &of["Key"], 2.0),
                    })
                };
                parts.filter_map(part).collect()
            }
            Self::BatchRead => tables
                .flat_map(|(table, of)| {
                    let factor = consistency(of);
                    let keys = list(&of["Keys"]).into_iter();
                    keys.map(move |key| Part::new(table, Direction::Read, &key, factor))
                })
                .collect(),
            Self::BatchWrite => tables
                .flat_map(|(table, writes)| {
                    list(writes)
                        .into_iter()
                        .map(move |write| match &write["PutRequest"]["Item"] {
                            Value::Null => {
                                let key = &write["DeleteRequest"]["Key"];
                                Part::new(table, Direction::Write, key, 1.0)
                            }
                            item => Part::put(table, item, 1.0),
                        })
                })
                .collect(),
        }
    }
}

/// The units that were used in this second, and the calls in progress.
#[derive(Debug)]
pub(crate) struct Partitions {
    clock: TestClock,
    second: u64,
    used: HashMap<(Partition, Direction), f64>,
    /// The items of write transactions in progress.
    transactions: HashMap<String, u32>,
    /// The items of other writes in progress.
    writes: HashMap<String, u32>,
}

impl Partitions {
    pub(crate) fn new(clock: TestClock) -> Self {
        Self {
            clock,
            second: 0,
            used: HashMap::new(),
            transactions: HashMap::new(),
            writes: HashMap::new(),
        }
    }

    /// Returns, for each part of a call, whether the part conflicts with another call in progress.
    pub(crate) fn conflicts(&self, call: Call, parts: &[Part]) -> Vec<bool> {
        let is_used = |part: &Part| {
            let item = part.item();
            let is_in_transaction = self.transactions.contains_key(&item);
            match call {
                Call::Write | Call::TransactionalWrite => is_in_transaction,
                Call::TransactionalRead => is_in_transaction || self.writes.contains_key(&item),
                Call::Read | Call::BatchRead | Call::BatchWrite => false,
            }
        };
        parts.iter().map(is_used).collect()
    }

    fn in_progress(&mut self, call: Call) -> Option<&mut HashMap<String, u32>> {
        match call {
            Call::TransactionalWrite => Some(&mut self.transactions),
            Call::Write | Call::BatchWrite => Some(&mut self.writes),
            _ => None,
        }
    }

    /// Notes that a call is in progress.
    pub(crate) fn begin(&mut self, call: Call, parts: &[Part]) {
        if let Some(items) = self.in_progress(call) {
            for part in parts {
                *items.entry(part.item()).or_default() += 1;
            }
        }
    }

    /// Notes that a call has ended.
    pub(crate) fn end(&mut self, call: Call, parts: &[Part]) {
        if let Some(items) = self.in_progress(call) {
            for part in parts {
                if let Some(count) = items.get_mut(&part.item()) {
                    *count -= 1;
                }
            }
            items.retain(|_, count| *count > 0);
        }
    }

    /// Counts the units of each part whose partitions can still serve these units in this second.
    /// Returns, for each part, whether its partitions can serve it. If `together` is true and a
    /// part cannot be served, counts nothing.
    pub(crate) fn charge(&mut self, parts: &[Part], together: bool) -> Vec<bool> {
        self.begin_second();
        let before = together.then(|| self.used.clone());
        let fits: Vec<_> = parts
            .iter()
            .map(|part| self.charge_all(&part.costs()))
            .collect();
        if let Some(before) = before.filter(|_| fits.contains(&false)) {
            self.used = before;
        }
        fits
    }

    /// Counts these units if their partitions can still serve all of them. Returns whether they
    /// can.
    fn charge_all(&mut self, costs: &[Cost]) -> bool {
        let fits = costs.iter().all(|(partition, direction, units)| {
            let used = self.used.get(&(partition.clone(), *direction));
            let limit = match direction {
                Direction::Read => READS,
                Direction::Write => WRITES,
            };
            used.copied().unwrap_or_default() + units <= limit
        });
        if fits {
            for (partition, direction, units) in costs {
                *self
                    .used
                    .entry((partition.clone(), *direction))
                    .or_default() += units;
            }
        }
        fits
    }

    /// Counts the minimum cost of a `Query`, which is half a unit, if its partition can still serve
    /// it. Returns whether the partition can. The cost of the whole `Query` is known only from the
    /// database's response, and `settle_query` counts the rest of it.
    pub(crate) fn charge_query(&mut self, query: &Value) -> bool {
        self.begin_second();
        self.charge_all(&[query_cost(query, 0.5)])
    }

    /// Counts the units of a `Query` that `charge_query` has not counted. `units` is the cost of
    /// the whole `Query`.
    pub(crate) fn settle_query(&mut self, query: &Value, units: f64) {
        let (partition, direction, more) = query_cost(query, (units - 0.5).max(0.0));
        *self.used.entry((partition, direction)).or_default() += more;
    }

    /// Forgets the units of the second before, if a new second has begun.
    fn begin_second(&mut self) {
        let second = self.clock.seconds();
        if second != self.second {
            self.second = second;
            self.used.clear();
        }
    }
}

/// Returns these units as the cost of a query in the partition that the query reads. The query's
/// key condition must begin with `NAME = :VALUE`.
fn query_cost(query: &Value, units: f64) -> Cost {
    let condition = query["KeyConditionExpression"].as_str().unwrap_or_default();
    let mut words = condition.split_whitespace();
    let placeholder = words.nth(2).expect("the condition begins with an equation");
    let partition = Partition {
        table: query["TableName"].as_str().unwrap_or_default().to_owned(),
        is_index: !query["IndexName"].is_null(),
        key: query["ExpressionAttributeValues"][placeholder].to_string(),
    };
    (partition, Direction::Read, units)
}

/// Removes from a batch request the parts that the partitions cannot serve. Returns these parts, in
/// the form in which DynamoDB returns unprocessed items.
pub(crate) fn split_batch(request: &mut Value, charged: &[bool]) -> Value {
    let mut charged = charged.iter();
    let mut left = request["RequestItems"].clone();
    let tables = request["RequestItems"]
        .as_object_mut()
        .into_iter()
        .flatten();
    for (table, of) in tables {
        let (kept, rest) = match of {
            Value::Array(writes) => (writes, &mut left[table]),
            of => {
                let Some(keys) = of["Keys"].as_array_mut() else {
                    continue;
                };
                (keys, &mut left[table]["Keys"])
            }
        };
        let all = std::mem::take(kept);
        let (fits, others): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|_| charged.next().is_some_and(|charged| *charged));
        *kept = fits;
        *rest = others.into();
    }
    let is_empty = |of: &Value| {
        let list = of.as_array().or_else(|| of["Keys"].as_array());
        list.is_none_or(Vec::is_empty)
    };
    for items in [&mut left, &mut request["RequestItems"]] {
        if let Some(tables) = items.as_object_mut() {
            tables.retain(|_, of| !is_empty(of));
        }
    }
    left
}
