"""Usher from Python: publish an audience, send an event, look up who is in.

Start a system first, for instance with `usher demo --keep` (it says where its data dir is), then:

    export USHER_URL=http://127.0.0.1:PORT USHER_API_KEY=$(cat DATA_DIR/admin.key)
    python examples/python_client.py
"""

from __future__ import annotations

from cluster import Client, event, prop, trait

BIG_SPENDERS = (
    event("order_completed").within("1h").where(prop("amount") > 100, channel="web")
    & (trait("ltv") > 300)
    & trait("loyalty_tier").in_("gold", "platinum")
)


def main() -> None:
    """Do it all once."""
    with Client() as usher:
        applied = usher.audiences.publish("big_spenders", name="Big spenders", parent="users", where=BIG_SPENDERS)
        print("version", applied.version, "is in force")

        user = "shopper_00002"  # of the demo: lifetime value 6946.98, platinum
        print("before:", usher.is_member("big_spenders", user))
        sent = usher.events.send(
            [
                {
                    "type": "track",
                    "event": "Order Completed",
                    "user_id": user,
                    "source": "web",
                    "message_id": "example-1",
                    "properties": {"amount": 120, "channel": "web"},
                }
            ]
        )
        print("accepted:", sent.accepted, "duplicates:", sent.duplicates)
        print("after: ", usher.membership("big_spenders", user))
        print("all of theirs:", usher.user_memberships(user))


if __name__ == "__main__":
    main()
