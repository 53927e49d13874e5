//! The scripts. Each is one round trip, and nothing happens beside it.
//!
//! All names that one uses share their hash tag, so they are on one node of a cluster.

use std::sync::LazyLock;

use redis::Script;

/// Reads the time, and the values of keys.
///
/// `KEYS` the records'.
pub(super) static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local answer = {time[1], time[2]}
for n, key in ipairs(KEYS) do
    answer[n + 2] = redis.call('GET', key)
end
return answer
",
    )
});

/// Writes those records that are as they were when they were read. Answers for each: -1 if it is
/// not; else the token of the lease that it was granted, or 0.
///
/// What was decided while a lease was good is not written once it has run out.
///
/// `KEYS` due, written, gave up, token, then the records'. `ARGV` for each of these: the key; what it said
/// (empty: nothing); before when to write, in microseconds; what it shall say (empty: nothing), in
/// two parts if the new lease's token goes between them; whether it does; when it is due and when it
/// was written, in microseconds; when it expires, in milliseconds. A time is empty if never.
pub(super) static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {}
for n = 1, #KEYS - 4 do
    local name = KEYS[n + 4]
    local at = (n - 1) * 9
    local key, said, before = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local text, rest, granted = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
    local due, written, expires = ARGV[at + 7], ARGV[at + 8], ARGV[at + 9]
    if (redis.call('GET', name) or '') ~= said
        or (before ~= '' and now >= tonumber(before)) then
        answer[n] = -1
    elseif text == '' then
        redis.call('DEL', name)
        redis.call('ZREM', KEYS[1], key)
        redis.call('ZREM', KEYS[2], key)
        redis.call('ZREM', KEYS[3], key)
        answer[n] = 0
    else
        answer[n] = 0
        if granted == '1' then
            answer[n] = redis.call('INCR', KEYS[4])
            text = text .. string.format('%.0f', answer[n]) .. rest
        end
        redis.call('SET', name, text)
        if expires ~= '' then
            redis.call('PEXPIREAT', name, expires)
        end
        if due ~= '' then
            redis.call('ZADD', KEYS[1], due, key)
            redis.call('ZREM', KEYS[3], key)
        else
            redis.call('ZREM', KEYS[1], key)
            redis.call('ZADD', KEYS[3], 0, key)
        end
        redis.call('ZADD', KEYS[2], written, key)
    end
end
return answer
",
    )
});

/// Lists what is due or waits, with the time: at least the page, if there is as much. Keys that have
/// expired meanwhile leave the lists by it.
///
/// `KEYS` due, written. `ARGV` what comes before a key in a record's name; `due` or `waiting`; how
/// many; the place after which to begin, of which the first part is empty if that is the beginning.
pub(super) static LIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local due, written = KEYS[1], KEYS[2]
local prefix, which, limit, after, key = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local answer = {time[1], time[2]}
local found = 0
local future = redis.call('ZCOUNT', written, '(' .. now, '+inf') > 0

local function add(member)
    local text = redis.call('GET', prefix .. member)
    if text then
        answer[#answer + 1] = member
        answer[#answer + 1] = text
        found = found + 1
    else
        redis.call('ZREM', due, member)
        redis.call('ZREM', written, member)
    end
end

-- How many come before a place: known once something is there.
local first = 0
if after ~= '' then
    local score = redis.call('ZSCORE', due, key)
    redis.call('ZADD', due, after, key)
    first = redis.call('ZRANK', due, key)
    if not score then
        redis.call('ZREM', due, key)
    else
        redis.call('ZADD', due, score, key)
        if tonumber(score) <= tonumber(after) then
            first = first + 1
        end
    end
end
local over = redis.call('ZCOUNT', due, '-inf', now)
local last = over
if which == 'waiting' then
    first = math.max(first, over)
    last = redis.call('ZCARD', due)
end
while found < limit and first < last do
    local members = redis.call('ZRANGE', due, first, math.min(first + limit, last) - 1)
    first = first + #members
    for _, member in ipairs(members) do
        if not (future and which == 'waiting'
            and tonumber(redis.call('ZSCORE', written, member) or 0) > tonumber(now)) then
            local before = found
            add(member)
            if found == before then
                first = first - 1
                last = last - 1
            end
        end
    end
end
if future and which == 'due' then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', written, '(' .. now, '+inf')) do
        if redis.call('ZSCORE', due, member) then
            add(member)
        end
    end
end
return answer
",
    )
});

/// Lists what gave up, with the time.
///
/// `KEYS` gave up. `ARGV` what comes before a key in a record's name; how many; the place before the
/// first, as a lexicographical range has it.
pub(super) static GAVE_UP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local answer = redis.call('TIME')
for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[3], '+', 'LIMIT', 0, ARGV[2])) do
    answer[#answer + 1] = member
    answer[#answer + 1] = redis.call('GET', ARGV[1] .. member)
end
return answer
",
    )
});
