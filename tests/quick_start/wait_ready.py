"""What a script of documented commands waits for, once it has started the broker in the background."""

# A reader gives it a second, which a busy machine may exceed. A broker that has ended ends the script.
WAIT_READY = (
    "until curl --noproxy '*' -sf http://127.0.0.1:9080/readyz >/dev/null; "
    "do kill -0 $! || exit 1; [ $((waits = ${waits:-0} + 1)) -lt 600 ] || "
    "{ echo 'it is not ready after a minute'; exit 1; }; sleep 0.1; done"
)
