"""Who is asking: from an Authorization header to a grant. A source's write key counts as a key that sends events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.definitions.model import Definitions
from cluster.edge import problems
from cluster.keys import allows, hash_key
from cluster.runtime.protocols import KeyRecord, Role


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key stands for. `source` is set for a source's write key, which sends events of that source alone."""

    role: Role
    key_id: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every key in force, by SHA-256 in hex. Immutable: a change of keys makes a new ring.

    Looking a digest up in a dict is safe against timing: what is compared are digests, which a guesser cannot steer.
    """

    grants: Mapping[str, Grant] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[KeyRecord], definitions: Definitions | None) -> KeyRing:
        """Gather the API keys and the sources' write keys."""
        grants = {record.hash_hex: Grant(record.role, record.id) for record in keys}
        for source in definitions.sources.values() if definitions else ():
            if source.write_key:
                grants[hash_key(source.write_key)] = Grant("ingest", f"source:{source.id}", source.id)
        return cls(grants)

    def find(self, key: str) -> Grant | None:
        """Give what this key may do, None for an unknown one."""
        return self.grants.get(hash_key(key))

    def require(self, authorization: str | None, needed: Role) -> Grant:
        """Give the grant of a Bearer header that may do what takes `needed`; raises Problem 401 or 403."""
        grant = self._bearer(authorization)
        if not allows(grant.role, needed) or (grant.source is not None and needed != "ingest"):
            raise problems.forbidden(
                f"This takes a key with the role {needed}; yours has the role {grant.role}. "
                "An admin makes keys: usher keys create --role ROLE."
            )
        return grant

    def _bearer(self, authorization: str | None) -> Grant:
        if not authorization:
            raise problems.unauthorized("An API key is missing. Send the header: Authorization: Bearer KEY.")
        token = bearer_token(authorization)
        if token is None:
            raise problems.unauthorized("The Authorization header is not of the form: Bearer KEY.")
        grant = self.find(token)
        if grant is None:
            raise problems.unauthorized("The API key is not known; it may have been revoked.")
        return grant


def bearer_token(authorization: str) -> str | None:
    """Give the token of a Bearer header, None for any other scheme."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token else None
