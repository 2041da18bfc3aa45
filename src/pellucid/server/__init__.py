"""The HTTP server: an asyncio process that speaks OpenAI's API, and the engine in a child process.

    client ──HTTP──▶ app · openai ──link──▶ worker ──▶ Engine.step()
                     (tokenises)   records    (its own interpreter lock)

Read in this order: `protocol` (the records that cross), `worker` (the child's loop), `link`,
`process`, `spare` and `supervisor` (the parent's side: the link, the process, one that waits in
case it dies, its lives), `fields`, `parsing`, `messages` and `schemas` (what a request may say),
`calls` (from a body to requests), `openai` (the routes), `render` (answers in OpenAI's shapes),
`http` and `connections` (bodies, streams, who may enter), `errors`, `app` and `serve` (the
assembly).
"""
