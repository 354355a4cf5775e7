# The README's tour, step by step, run by the NixOS test driver, which brings
# `machine` and `subtest`.
import json
import shlex

API = "http://127.0.0.1:8080"
HLS = "http://127.0.0.1:8081"
CREDENTIALS = "/var/lib/castlog-credentials"
SERVICES = {
    "castlog-rtmp": 9640,
    "castlog-pipeline": 9641,
    "castlog-hls": 9642,
    "castlog-live-info": 9643,
    "castlog-live-api": 9644,
    "castlog-indexer": 9645,
    "castlog-log-sink": 9646,
}


def curl(path, *options):
    return shlex.join(["curl", "-sS", "--fail-with-body", *options, API + path])


def command(method, path, body):
    words = curl(
        path,
        "-X",
        method,
        "-H",
        "content-type: application/json",
        "-d",
        json.dumps(body),
    )
    token = f'"authorization: Bearer $(cat {CREDENTIALS}/admin-token)"'
    return json.loads(machine.succeed(f"{words} -H {token}"))


def nats(words):
    return f"nats --server nats://127.0.0.1:4222 --nkey {CREDENTIALS}/observer.nk --inbox-prefix _INBOX {words}"


# The last entry of a subject, in words.
def entries(subject):
    return nats(
        f"sub {subject} --last-per-subject --count 1 --wait 5s --translate 'castlog decode {{{{Subject}}}}'"
    )


def found(query, ids):
    answer = curl(f"/v1/search?{query}")
    wanted = json.dumps(sorted(ids))
    machine.wait_until_succeeds(
        f"{answer} | jq -e '[.hits[].id] | sort == {wanted}'", timeout=60
    )


def push(unit, key):
    machine.succeed(
        f"systemd-run --unit {unit} ffmpeg -hide_banner -loglevel warning -re"
        " -f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine=frequency=330:sample_rate=48000"
        " -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 60 -c:a aac"
        f" -f flv rtmp://127.0.0.1:1935/live/{key}"
    )


with subtest("everything comes up"):
    for unit in ["nats", "redis-castlog", "meilisearch", "castlog-apply"]:
        machine.wait_for_unit(f"{unit}.service")
    for unit, port in SERVICES.items():
        machine.wait_for_unit(f"{unit}.service")
        machine.wait_until_succeeds(
            f"curl -sS --fail http://127.0.0.1:{port}/readyz", timeout=120
        )

with subtest("1. create a broadcast"):
    created = command(
        "POST",
        "/v1/broadcasts",
        {
            "title": "Ranked games at night",
            "tags": ["game"],
            "options": {"language": "en"},
        },
    )
    broadcast = created["broadcast"]["id"]
    key = created["publish_key"]
    machine.fail(curl("/v1/broadcasts", "-X", "POST", "-d", "{}"))
    found("q=ranked", [])

with subtest("2. push to it"):
    push("encoder", key)
    machine.wait_until_succeeds(
        f"{curl(f'/v1/broadcasts/{broadcast}')} | jq -e '.status.state == \"live\"'",
        timeout=120,
    )

with subtest("3. read the log"):
    machine.succeed(nats("stream ls") + " | grep LIVE_STREAM")
    machine.succeed(nats("consumer ls LIVE_STREAM") + " | grep pipeline")
    machine.succeed(
        f"{entries(f'media.broad_info.title.{broadcast}')} | grep Ranked"
    )
    machine.fail(nats("stream rm --force LIVE_STREAM"))

with subtest("4. watch"):
    machine.wait_until_succeeds(
        f"ffprobe -v error -show_entries stream=codec_name -of csv=p=0 {HLS}/live/{broadcast}/index.m3u8 | grep h264",
        timeout=120,
    )
    machine.succeed(f"{curl(f'/watch/{broadcast}')} | grep -i '<!doctype html>'")

with subtest("5. search"):
    for query in ["q=ranked", "q=rankde", "tags=game"]:
        found(query, [broadcast])
    found("q=zebra", [])

with subtest("6. change the title"):
    command("PUT", f"/v1/broadcasts/{broadcast}/title", {"title": "Quiet chess"})
    found("q=chess", [broadcast])
    found("q=ranked", [])

with subtest("7. stop the encoder"):
    machine.succeed("systemctl stop encoder")
    machine.wait_until_succeeds(
        f"{curl(f'/v1/broadcasts/{broadcast}')} | jq -e '.status.state == \"ended\"'",
        timeout=120,
    )
    found("q=chess", [])

with subtest("8. a wrong key is refused, and the attempt is in the log"):
    push("stranger", "ck_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    unknown = entries("media.live_stream.auth.unknown")
    machine.wait_until_succeeds(
        f"{unknown} | grep 'unknown publish key'", timeout=60
    )

with subtest("the services live in their sandboxes"):
    for unit in SERVICES:
        machine.succeed(f"systemctl is-active {unit}")
        machine.fail(f"journalctl -u {unit} | grep -iE 'permission denied|read-only'")
    machine.fail("runuser -u castlog-hls -- ls /var/lib/castlog-credentials")

with subtest("after a restart of the machine it is all there"):
    machine.shutdown()
    machine.start()
    machine.wait_for_unit("castlog-live-api.service")
    machine.wait_until_succeeds(
        f"{curl(f'/v1/broadcasts/{broadcast}')} | jq -e '.status.state == \"ended\"'",
        timeout=120,
    )
