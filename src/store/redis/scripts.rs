//! The scripts. Each is one round trip, and nothing happens beside it.
//!
//! All names that one uses share their hash tag, so they are on one node of a cluster.

use std::sync::LazyLock;

use redis::Script;

/// What all of them begin with.
const READ: &str = r"
-- What a name says, if there is anything. Somebody else's value says nothing that a record does.
local function read(name)
    local text = redis.pcall('GET', name)
    if type(text) == 'table' and string.find(text.err, 'WRONGTYPE', 1, true) then
        return ' '
    elseif type(text) == 'table' then
        error(text.err)
    end
    return text == '' and ' ' or text
end
";

fn script(code: &str) -> Script {
    Script::new(&[READ, code].concat())
}

/// Changes those records that are as they were believed to be, at a time at which that was decided.
/// Answers with the time, and then for each record: `+` and the token of the lease that it was
/// granted, or 0; or `-` and what it says, if it is not so or it is not the time.
///
/// All is read, and found to be what can be written to, before anything is written: an error leaves
/// all as it was.
///
/// `KEYS` due, written, gave up, token, then the records'. `ARGV` for each of these: the key; what it
/// is believed to say (empty: nothing); from when, and before when; and what to do: `keep`, `delete`,
/// or `put`, with the number of pieces of the text, these, when it is due, when it was written, and
/// when it expires (empty: never). A piece is `=` and a text, `+` and how much later than now, or `#`
/// for a token. All times are in microseconds.
pub(super) static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = {time[1], time[2]}
local at, token = 0, 0
local times = {}
-- These are sorted sets, or this fails.
for which = 1, 3 do
    redis.call('ZCARD', KEYS[which])
end

local function argument()
    at = at + 1
    return ARGV[at]
end

local function filled(piece)
    local kind = string.sub(piece, 1, 1)
    if kind == '+' then
        -- To write a number takes longer than all the rest, and many are the same.
        local time = times[piece] or string.format('%.0f', now + string.sub(piece, 2))
        times[piece] = time
        return time
    elseif kind == '#' then
        return string.format('%.0f', token)
    end
    return string.sub(piece, 2)
end

-- What to write, and how much of it expires.
local writes, expiring = {}, 0

local function write(...)
    writes[#writes + 1] = {...}
end

-- What to add to the lists and to remove from them: all at once, which is quicker.
local added, removed = {{}, {}, {}}, {{}, {}, {}}

local function list(which, key, score)
    local change = score and added[which] or removed[which]
    if score then
        change[#change + 1] = score
    end
    change[#change + 1] = key
end

local function delete(name, key)
    write('DEL', name)
    list(1, key)
    list(2, key)
    list(3, key)
end

local function put(name, key, pieces, due, written, expires)
    for n, piece in ipairs(pieces) do
        if piece == '#' then
            token = redis.call('INCR', KEYS[4])
        end
        pieces[n] = filled(piece)
    end
    write('SET', name, table.concat(pieces))
    if expires ~= '' then
        expiring = expiring + 1
        write('PEXPIREAT', name, string.format('%.0f', math.ceil(filled(expires) / 1000)))
    end
    list(1, key, due ~= '' and filled(due))
    list(2, key, filled(written))
    list(3, key, due == '' and '0')
end

for n = 5, #KEYS do
    local name, key, believed = KEYS[n], argument(), argument()
    local from, before, verb = argument(), argument(), argument()
    local pieces, due, written, expires = {}
    if verb == 'put' then
        for piece = 1, argument() do
            pieces[piece] = argument()
        end
        due, written, expires = argument(), argument(), argument()
    end
    local says = read(name) or ''
    token = 0
    if says ~= believed or now < tonumber(from) or now >= tonumber(before) then
        answer[#answer + 1] = '-' .. says
    else
        if verb == 'put' then
            put(name, key, pieces, due, written, expires)
        elseif verb == 'delete' then
            delete(name, key)
        end
        answer[#answer + 1] = '+' .. (token == 0 and '0' or string.format('%.0f', token))
    end
end
for _, command in ipairs(writes) do
    redis.call(unpack(command))
end
for which = 1, 3 do
    if #added[which] > 0 then
        redis.call('ZADD', KEYS[which], unpack(added[which]))
    end
    if #removed[which] > 0 then
        redis.call('ZREM', KEYS[which], unpack(removed[which]))
    end
end
if expiring > 0 then
    -- What has expired leaves the lists by this: three that are looked at, somewhere, for each that
    -- may expire, so that no more than about a third of a list is gone.
    local prefix = string.sub(KEYS[5], 1, #KEYS[5] - #ARGV[1])
    local first = now % math.max(1, redis.call('ZCARD', KEYS[1]))
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], first, first + 3 * expiring - 1)) do
        if redis.call('EXISTS', prefix .. member) == 0 then
            redis.call('ZREM', KEYS[1], member)
            redis.call('ZREM', KEYS[2], member)
        end
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
    script(
        r"
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local due, written = KEYS[1], KEYS[2]
local prefix, which, limit, after, key = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local answer = {time[1], time[2]}
local found = 0
local future = redis.call('ZCOUNT', written, '(' .. now, '+inf') > 0

local function add(member)
    local text = read(prefix .. member)
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

/// Lists what gave up, with the time. Keys that somebody deleted leave the list by it.
///
/// `KEYS` gave up, written. `ARGV` what comes before a key in a record's name; how many; the place before the
/// first, as a lexicographical range has it.
pub(super) static GAVE_UP: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local answer = redis.call('TIME')
local left, first = tonumber(ARGV[2]), ARGV[3]
while left > 0 do
    local members = redis.call('ZRANGEBYLEX', KEYS[1], first, '+', 'LIMIT', 0, left)
    if #members == 0 then
        break
    end
    for _, member in ipairs(members) do
        local text = read(ARGV[1] .. member)
        if text then
            answer[#answer + 1] = member
            answer[#answer + 1] = text
            left = left - 1
        else
            redis.call('ZREM', KEYS[1], member)
            redis.call('ZREM', KEYS[2], member)
        end
    end
    first = '(' .. members[#members]
end
return answer
",
    )
});
