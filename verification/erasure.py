"""Where verifications hold a number (messaging.erasure). A block in force stays: erasing is no way around it."""

from messaging.erasure import Part

PARTS = (
    Part(
        "verifications",
        "verification_challenge",
        """t."to" = %(number)s""",
        """"to" = %(erased)s, context = '{}', ip = NULL, device = ''""",
        busy="t.status = 'pending'",
    ),
    Part("refusals", "verification_refused", """t."to" = %(number)s""", """"to" = %(erased)s"""),
    Part("counters", "verification_bucket", "(t.value = %(number)s OR t.value LIKE '%% ' || %(number)s)"),
    Part("trusted numbers", "verification_trustednumber", "t.msisdn = %(number)s"),
    Part(
        "blocks that ended",
        "verification_block",
        "t.kind = 'number' AND t.value = %(number)s AND coalesce(t.lifted_at, t.expires_at) < clock_timestamp()",
    ),
)
