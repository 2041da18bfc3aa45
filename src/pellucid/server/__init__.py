"""The HTTP server: an asyncio process that speaks OpenAI's API, and the engine in a child process.

    client ──HTTP──▶ app · openai ──link──▶ worker ──▶ Engine.step()
                     (tokenises)   records    (its own interpreter lock)

Read in this order: `protocol` (the records that cross), `worker` (the child's loop), `link` and
`process` (the parent's side), `schemas` (what a request may say), `openai` (the routes), `render`
(answers in OpenAI's shapes), `http` (bodies, streams, errors), `app` and `serve` (the assembly).
"""
