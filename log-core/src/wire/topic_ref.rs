//! A topic as Produce and Fetch name it: by name up to one version, by id from the next.

use std::fmt;

use kafka_wire_core::{ApiVersion, DecodeError, EncodeError, StrBytes, Uuid};

use super::primitive::{Reader, Writer};

/// The first version of Produce and of Fetch (by coincidence the same) that carries topic ids.
const TOPIC_IDS_SINCE: i16 = 13;

/// What a Produce (13 and later: id) or Fetch (13 and later: id) request calls a topic (KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// The topic's name, which may have been deleted and created again.
    Name(StrBytes),
    /// The topic's id, which is never reused.
    Id(Uuid),
}

impl TopicRef {
    /// The name, when the request used names.
    pub fn name(&self) -> Option<&str> {
        match self {
            TopicRef::Name(name) => Some(name),
            TopicRef::Id(_) => None,
        }
    }

    /// The id, when the request used ids.
    pub fn id(&self) -> Option<Uuid> {
        match self {
            TopicRef::Name(_) => None,
            TopicRef::Id(id) => Some(*id),
        }
    }

    /// A copy that keeps nothing of the request in memory: a name that was decoded is a slice of its bytes.
    pub fn detached(&self) -> TopicRef {
        match self {
            TopicRef::Name(name) => TopicRef::Name((&**name).into()),
            TopicRef::Id(id) => TopicRef::Id(*id),
        }
    }

    /// Reads what a Produce or Fetch body of `version` carries.
    pub(super) fn decode(reader: &mut Reader, version: i16) -> Result<TopicRef, DecodeError> {
        if version >= TOPIC_IDS_SINCE {
            reader.uuid().map(TopicRef::Id)
        } else {
            reader.string().map(TopicRef::Name)
        }
    }

    /// Writes what a Produce or Fetch body of `version` carries, or refuses the other kind.
    pub(super) fn encode(
        &self,
        writer: &mut Writer,
        message: &'static str,
        version: i16,
    ) -> Result<(), EncodeError> {
        let refused =
            |field| EncodeError::FieldNotRepresentable { message, field, version: ApiVersion::new(version) };
        match self {
            TopicRef::Id(id) if version >= TOPIC_IDS_SINCE => writer.uuid(*id),
            TopicRef::Name(name) if version < TOPIC_IDS_SINCE => writer.string(name)?,
            TopicRef::Id(_) => return Err(refused("topic_id")),
            TopicRef::Name(_) => return Err(refused("name")),
        }
        Ok(())
    }
}

impl From<&str> for TopicRef {
    fn from(name: &str) -> Self {
        TopicRef::Name(name.into())
    }
}

impl From<Uuid> for TopicRef {
    fn from(id: Uuid) -> Self {
        TopicRef::Id(id)
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicRef::Name(name) => f.write_str(name),
            TopicRef::Id(id) => id.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}
