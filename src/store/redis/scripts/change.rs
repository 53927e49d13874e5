//! The script that changes records.

use std::sync::LazyLock;

use redis::Script;

use super::script;

/// Changes those records that are as they were believed to be, if the time is within the span for
/// which the change was decided. Answers with the time, and then for each record: `+` and the token
/// of the lease that was granted, or 0; or `-` and what the record says, if it is not as believed,
/// or the time is not within the span.
///
/// All is read, and checked to be what can be written to, before anything is written: an error
/// leaves all as it was.
///
/// A call that was answered before, and was sent again because the answer was lost, gets the same
/// answer: the server keeps the last answer of each line for five minutes, if anything was changed.
/// But it does not keep what the unchanged records said: such texts may be long, and nothing
/// happened to those that must not happen twice. In their place it answers `?`.
///
/// `KEYS`: due, written, gave up, token, the line's, then the records'.
///
/// `ARGV`: the number of the call, 0 if it can change nothing; the length of what comes before the
/// key in a record's name; the span, as from when and before when; and for each record: what it is
/// believed to say (empty: nothing); if it has a span of its own, `within` and that span; and what
/// to do: `keep`, `delete`, `put`, or `revive`, which is `put` for a key that may be among those
/// that gave up. The last two are followed by the number of pieces of the text, the pieces, when
/// the key is due (empty: it gave up), when the record was written, and when it expires (empty:
/// never). Every other piece is a gap: `#` for a token, or a time. A time is a number, or `+` and
/// how much later than now it is. All times are in microseconds.
pub(in crate::store::redis) static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    script(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local call, prefix = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = call > 0 and redis.call('GET', KEYS[5])
if kept then
    local blank = string.find(kept, ' ', 1, true)
    local number = tonumber(string.sub(kept, 1, blank))
    if number == call then
        return cmsgpack.unpack(string.sub(kept, blank + 1))
    elseif number > call then
        -- Its caller has gone on. So late it could do no good.
        return {time[1], time[2]}
    end
end

-- To write a number takes longer than all the rest, and many are the same.
local times = {}
local function filled(gap)
    local plus = 43
    if string.byte(gap) ~= plus then
        return gap
    end
    local time = times[gap] or string.format('%.0f', now + gap)
    times[gap] = time
    return time
end

-- What to write; what to add to the lists, and to remove from them: all at once, too.
local sets, deletes, expiring = {}, {}, {}
local added, removed = {{}, {}, {}}, {{}, {}, {}}
local puts = 0

local function add(which, key, score)
    local places = added[which]
    local n = #places
    places[n + 1], places[n + 2] = score, key
end

local function remove(which, key)
    local keys = removed[which]
    keys[#keys + 1] = key
end

-- Where the pieces are, and after them the places.
local function put(name, key, first, last, is_revived)
    local due, written, expires, token = ARGV[last + 1], ARGV[last + 2], ARGV[last + 3], '0'
    for n = first + 1, last, 2 do
        if ARGV[n] == '#' then
            token = string.format('%.0f', redis.call('INCR', KEYS[4]))
            ARGV[n] = token
        else
            ARGV[n] = filled(ARGV[n])
        end
    end
    sets[puts + 1], sets[puts + 2] = name, table.concat(ARGV, '', first, last)
    added[2][puts + 1], added[2][puts + 2] = filled(written), key
    puts = puts + 2
    if expires ~= '' then
        expiring[#expiring + 1] = {name, math.ceil(filled(expires) / 1000)}
    end
    if due == '' then
        add(3, key, '0')
        remove(1, key)
    else
        add(1, key, filled(due))
        if is_revived then
            remove(3, key)
        end
    end
    return token
end

local says = read({unpack(KEYS, 6)})
local answer = {time[1], time[2]}
local usual_from, usual_before = tonumber(ARGV[3]), tonumber(ARGV[4])
local at = 5
for n, text in ipairs(says) do
    local name, from, before = KEYS[n + 5], usual_from, usual_before
    local believed, verb = ARGV[at], ARGV[at + 1]
    at = at + 2
    if verb == 'within' then
        from, before, verb = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
        at = at + 3
    end
    local is_put = verb == 'put' or verb == 'revive'
    local first = at + 1
    local last = is_put and at + ARGV[at]
    at = is_put and last + 4 or at
    if (text or '') ~= believed or now < from or now >= before then
        answer[n + 2] = '-' .. (text or '')
    elseif is_put then
        local key = string.sub(name, prefix + 1)
        answer[n + 2] = '+' .. put(name, key, first, last, verb == 'revive')
    else
        answer[n + 2] = '+0'
        if verb == 'delete' then
            deletes[#deletes + 1] = name
            for which = 1, 3 do
                remove(which, string.sub(name, prefix + 1))
            end
        end
    end
end
if #sets == 0 and #deletes == 0 then
    return answer
end

-- These are sorted sets, or this fails.
for which = 1, 3 do
    if #added[which] + #removed[which] > 0 then
        redis.call('ZCARD', KEYS[which])
    end
end
if #sets > 0 then
    redis.call('MSET', unpack(sets))
end
if #deletes > 0 then
    redis.call('DEL', unpack(deletes))
end
for which = 1, 3 do
    if #added[which] > 0 then
        redis.call('ZADD', KEYS[which], unpack(added[which]))
    end
    if #removed[which] > 0 then
        redis.call('ZREM', KEYS[which], unpack(removed[which]))
    end
end
for _, place in ipairs(expiring) do
    redis.call('PEXPIREAT', place[1], string.format('%.0f', place[2]))
end
if #expiring > 0 then
    -- What has expired leaves the lists by this: three that are looked at, somewhere, for each that
    -- may expire, so that no more than about a third of a list is gone.
    local names = string.sub(KEYS[6], 1, prefix)
    local first = now % math.max(1, redis.call('ZCARD', KEYS[1]))
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], first, first + 3 * #expiring - 1)) do
        if redis.call('EXISTS', names .. member) == 0 then
            redis.call('ZREM', KEYS[1], member)
            redis.call('ZREM', KEYS[2], member)
        end
    end
end
local minus, short = 45, {}
for n, told in ipairs(answer) do
    short[n] = string.byte(told) == minus and '?' or told
end
-- Last: what only takes things away may be done where there is no more memory.
redis.call('SET', KEYS[5], ARGV[1] .. ' ' .. cmsgpack.pack(short), 'EX', 300)
return answer
",
    )
});
