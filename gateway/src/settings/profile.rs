//! What the catalogue tells of the parts that have no document of their own.

use foundation::Environment;

/// Who is responsible for a part. All of it may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileSettings {
    /// `…_OWNER`: who is responsible, such as a team.
    pub owner: Option<String>,
    /// `…_CONTACT`: how to reach the owner.
    pub contact: Option<String>,
    /// `…_REPOSITORY`: where the sources are.
    pub repository: Option<String>,
}

impl ProfileSettings {
    /// Reads `{prefix}_OWNER`, `_CONTACT` and `_REPOSITORY`.
    pub(super) fn read(environment: &Environment, prefix: &str) -> Self {
        let given = |name: String| Some(environment.text(&name, "")).filter(|text| !text.is_empty());
        Self {
            owner: given(format!("{prefix}_OWNER")),
            contact: given(format!("{prefix}_CONTACT")),
            repository: given(format!("{prefix}_REPOSITORY")),
        }
    }
}

/// Who is responsible for the parts that cannot be asked over HTTP, and for the gateway.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    /// `GATEWAY_OWNER`, `GATEWAY_CONTACT`, `GATEWAY_REPOSITORY` (none).
    pub gateway: ProfileSettings,
    /// `BILLING_OWNER`, `BILLING_CONTACT`, `BILLING_REPOSITORY` (none).
    pub billing: ProfileSettings,
    /// `BROKER_OWNER`, `BROKER_CONTACT`, `BROKER_REPOSITORY` (none).
    pub broker: ProfileSettings,
}

impl Profiles {
    pub(super) fn read(environment: &Environment) -> Self {
        Self {
            gateway: ProfileSettings::read(environment, "GATEWAY"),
            billing: ProfileSettings::read(environment, "BILLING"),
            broker: ProfileSettings::read(environment, "BROKER"),
        }
    }
}
