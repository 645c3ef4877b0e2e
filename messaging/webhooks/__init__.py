"""Webhooks out: Standard Webhooks (https://www.standardwebhooks.com), at least once, every endpoint for itself.

the writer of an event    marks it where its client has endpoints
fanout                    makes of each marked event one delivery per endpoint that wants it
sending                   claims what is due, signs and builds the request, settles what came of it
dispatcher                the thread of an events worker that does this; several workers share the work
endpoints, replays        what clients and staff may do
"""
