"""`create` makes a stream for the outlet, on all servers; `read` prints its messages: id, type and body, in hexadecimal."""

import asyncio
import sys

import nats
from nats.js.api import ConsumerConfig, DiscardPolicy, StreamConfig

command, urls, stream = sys.argv[1:]


async def body(jetstream, message):
    reference = message.headers.get("ce-dataref")
    if reference is None:
        return message.data
    bucket, name = reference.removeprefix("objectstore:").split("/")
    return (await (await jetstream.object_store(bucket)).get(name)).data


async def main():
    client = await nats.connect(urls.split(","))
    jetstream = client.jetstream()
    if command == "create":
        replicas = len(urls.split(","))
        discard = DiscardPolicy.NEW
        await jetstream.add_stream(StreamConfig(stream, subjects=["smartshape.>"], num_replicas=replicas, discard=discard))
    else:
        count = (await jetstream.stream_info(stream)).state.messages
        consumer = await jetstream.pull_subscribe("smartshape.>", stream=stream, config=ConsumerConfig())
        while count > 0:
            for message in await consumer.fetch(count):
                print(message.headers["ce-id"], message.headers["ce-type"], (await body(jetstream, message)).hex())
                await message.ack()
                count -= 1
    await client.close()


asyncio.run(main())
