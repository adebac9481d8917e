"""What the settings pages show: oneself, one's tokens, and for admins people, the audit log and the studio's secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from sqlmodel import Session

from app.access import audit, links, people, sessions, tokens
from app.access.marks import hashed
from app.access.person import ROLES, SCOPES, Person, Role
from app.secrets import hub_token
from app.settings import Settings
from app.webhooks import registry
from app.webhooks.events import EVENTS
from app.webhooks.shapes import Delivery, Webhook

Tab = Literal["you", "tokens", "webhooks", "people", "audit", "studio"]
PAGE = 50
TOKENS = 200
DELIVERIES = 5
EXPIRIES: dict[str, tuple[str, int | None]] = {"30": ("30 days", 30), "90": ("90 days", 90), "365": ("a year", 365), "": ("never", None)}


@dataclass(frozen=True, slots=True)
class Notice:
    """What came of the last form: words, or something to copy that is shown this once."""

    kind: Literal["done", "error"]
    title: str
    text: str = ""
    once: str = ""


@dataclass(frozen=True, slots=True)
class SessionLine:
    id: int
    agent: str
    address: str
    created_at: datetime
    seen_at: datetime
    current: bool


@dataclass(frozen=True, slots=True)
class TokenLine:
    id: int
    name: str
    prefix: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    state: Literal["valid", "revoked", "expired"]


@dataclass(frozen=True, slots=True)
class WebhookLine:
    webhook: Webhook
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class PersonLine:
    name: str
    role: Role
    created_at: datetime
    disabled: bool
    self: bool


@dataclass(frozen=True, slots=True)
class InvitationLine:
    id: int
    role: str
    created_by: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuditLine:
    at: datetime
    who: str
    means: str
    action: str
    object: str
    address: str
    outcome: str


@dataclass(frozen=True, slots=True)
class SettingsPage:
    """One tab of the settings. What belongs to another is empty."""

    tab: Tab
    tabs: tuple[tuple[Tab, str, str], ...]
    person: Person
    signs_in: bool
    notice: Notice | None = None
    faults: tuple[tuple[str, str], ...] = ()
    sessions: tuple[SessionLine, ...] = ()
    tokens: tuple[TokenLine, ...] = ()
    scopes: tuple[str, ...] = ()
    expiries: tuple[tuple[str, str], ...] = ()
    people: tuple[PersonLine, ...] = ()
    invitations: tuple[InvitationLine, ...] = ()
    roles: tuple[Role, ...] = ROLES
    audit: tuple[AuditLine, ...] = ()
    who: str = ""
    action: str = ""
    older: str | None = None
    webhooks: tuple[WebhookLine, ...] = ()
    events: tuple[str, ...] = EVENTS
    hub_token: str = ""
    """Where it comes from: "" for nowhere."""

    def fault(self, field: str) -> str:
        return next((message for name, message in self.faults if name == field), "")


TABS: dict[Tab, tuple[str, str]] = {
    "you": ("You", "/settings"),
    "tokens": ("Tokens", "/settings/tokens"),
    "webhooks": ("Webhooks", "/settings/webhooks"),
    "people": ("People", "/settings/people"),
    "audit": ("Audit log", "/settings/audit"),
    "studio": ("Studio", "/settings/studio"),
}


def settings_page(
    session: Session,
    settings: Settings,
    person: Person,
    tab: Tab,
    *,
    mark: str | None = None,
    notice: Notice | None = None,
    faults: tuple[tuple[str, str], ...] = (),
    who: str = "",
    action: str = "",
    before: str = "",
) -> SettingsPage:
    """A tab as this person sees it. `mark` is their session's."""
    signs_in = settings.auth == "password"
    own: tuple[Tab, ...] = ("you", "tokens", "webhooks")
    asked: tuple[Tab, ...] = ("tokens", "people")
    shown = [name for name in get_args(Tab) if (signs_in or name not in asked) and (person.is_admin or name in own)]
    tabs = tuple((name, *TABS[name]) for name in shown)
    base = SettingsPage(tab, tabs, person, signs_in, notice, faults)
    more: dict[str, Any] = {}
    if tab == "you" and person.id is not None:
        more["sessions"] = _sessions(session, settings, person.id, mark)
    elif tab == "tokens":
        more["tokens"] = _tokens(session, person)
        more["scopes"] = tuple(scope for scope in SCOPES if person.may_grant(scope))
        more["expiries"] = tuple((value, label) for value, (label, _) in EXPIRIES.items())
    elif tab == "webhooks":
        hooks = registry.of_person(session, person)[0]
        told = registry.newest_deliveries(session, [hook.id for hook in hooks], DELIVERIES)
        more["webhooks"] = tuple(WebhookLine(hook, tuple(told.get(hook.id, ()))) for hook in hooks)
    elif tab == "people":
        rows = people.listed(session)
        more["people"] = tuple(
            _person(row.name, row.role, row.created_at, row.disabled_at, person) for row in sorted(rows, key=lambda row: row.name_key)
        )
        more["invitations"] = tuple(InvitationLine(row.id or 0, row.role, row.created_by, row.expires_at) for row in links.waiting(session))
    elif tab == "studio":
        more["hub_token"] = hub_token.source(session)
    elif tab == "audit":
        more |= _audit(session, who, action, before)
    return replace(base, **more)


def _person(name: str, role: str, created_at: datetime, disabled_at: datetime | None, viewer: Person) -> PersonLine:
    return PersonLine(name, role, created_at, disabled_at is not None, name == viewer.name)  # type: ignore[arg-type]


def _sessions(session: Session, settings: Settings, person_id: int, mark: str | None) -> tuple[SessionLine, ...]:
    mine = hashed(mark) if mark else ""
    return tuple(
        SessionLine(row.id or 0, browser(row.agent), row.address, row.created_at, row.seen_at, row.token_hash == mine)
        for row in sessions.of_person(session, settings, person_id)
    )


def _tokens(session: Session, person: Person) -> tuple[TokenLine, ...]:
    return tuple(
        TokenLine(
            row.id or 0,
            row.name,
            row.prefix,
            row.scope,
            row.created_at,
            row.expires_at,
            row.used_at,
            "revoked" if row.revoked_at else "valid" if tokens.is_valid(row) else "expired",
        )
        for row in tokens.of_person(session, person.id, limit=TOKENS)[:TOKENS]
    )


def _audit(session: Session, who: str, action: str, before: str) -> dict[str, object]:
    rows = audit.entries(session, who=who, action=action, before=before if before.isdecimal() and len(before) < 19 else None, limit=PAGE)
    lines = tuple(
        AuditLine(row.at, row.who, row.means, row.action, row.object, row.address, row.outcome or "not known") for row in rows[:PAGE]
    )
    chosen = {"who": who, "action": action, "before": str(rows[PAGE - 1].id) if len(rows) > PAGE else ""}
    older = "?" + urlencode({name: value for name, value in chosen.items() if value}) if chosen["before"] else None
    return {"audit": lines, "who": who, "action": action, "older": older}


def browser(agent: str) -> str:
    """What people call a browser, from what it calls itself: ``Firefox on Linux``."""
    names = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl"))
    systems = (
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    )
    name = next((label for part, label in names if part in agent), "")
    system = next((label for part, label in systems if part in agent), "")
    return f"{name} on {system}" if name and system else name or system or "Unknown browser"
