//! The scripts. Each is one round trip, and nothing happens beside it.
//!
//! All names that one uses share their hash tag, so they are on one node of a cluster.

use std::sync::LazyLock;

use redis::Script;

/// What all of them begin with.
const READ: &str = r"
-- What each of these names says, if there is anything: all at once, which is quicker. What is empty or
-- of another type is somebody else's, and says nothing that a record does.
local function read(names)
    local says, silent = redis.call('MGET', unpack(names)), {}
    for n, name in ipairs(names) do
        if not says[n] then
            silent[#silent + 1] = name
        elseif says[n] == '' then
            says[n] = ' '
        end
    end
    if #silent > 0 and redis.call('EXISTS', unpack(silent)) > 0 then
        for n, name in ipairs(names) do
            if not says[n] and redis.call('EXISTS', name) == 1 then
                says[n] = ' '
            end
        end
    end
    return says
end
";

fn script(code: &str) -> Script {
    Script::new(&[READ, code].concat())
}

fn listing(code: &str) -> Script {
    script(&[LISTING, code].concat())
}

/// Changes those records that are as they were believed to be, at a time at which that was decided.
/// Answers with the time, and then for each record: `+` and the token of the lease that it was
/// granted, or 0; or `-` and what it says, if it is not so or it is not the time.
///
/// All is read, and found to be what can be written to, before anything is written: an error leaves
/// all as it was.
///
/// A call that was answered before, so that it is here again because the answer was lost, is answered
/// alike: the server keeps the last answer of the line that it comes over, for five minutes, if
/// anything was changed.
///
/// `KEYS` due, written, gave up, token, the line's, then the records'. `ARGV` the number of the call,
/// 0 if it can change nothing; how long that is what comes before a key in a record's name; from when,
/// and before when; and for each of the records: what it is believed to say (empty: nothing); if need
/// be, `within` and another such span; and what to do: `keep`, `delete`, `put`, or `revive`, which is to
/// put what may be among those that gave up. These two are followed by the number of pieces of the
/// text, these, when it is due (empty: it gave up), when it was written, and when it expires (empty:
/// never). Every other piece is a gap: `#` for a token, or a time. A time is a number, or `+` and how
/// much later it is than now. All are in microseconds.
pub(super) static CHANGE: LazyLock<Script> = LazyLock::new(|| {
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
    if string.byte(gap) ~= 43 then
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
-- Last: what only takes things away may be done where there is no more memory.
redis.call('SET', KEYS[5], ARGV[1] .. ' ' .. cmsgpack.pack(answer), 'EX', 300)
return answer
",
    )
});

/// What the scripts that list share: what they found, and what they found gone.
const LISTING: &str = r"
local prefix, limit, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local found, gone = {}, {}
-- How many were looked at, and the last of them.
local seen, last = 0

local function is_full()
    return #found >= 2 * limit or seen >= most
end

local function add(members)
    local names = {}
    for n, member in ipairs(members) do
        names[n] = prefix .. member
    end
    local says = #names > 0 and read(names)
    for n, member in ipairs(members) do
        if says[n] then
            found[#found + 1] = member
            found[#found + 1] = says[n]
        else
            gone[#gone + 1] = member
        end
    end
end

-- The answer: the time, the place at which to go on if there is more, and what was found. What is
-- gone leaves the lists by it, where they can be written to.
local function answer(time, lists, score, key)
    if #gone > 0 then
        for _, list in ipairs(lists) do
            redis.pcall('ZREM', list, unpack(gone))
        end
    end
    return {time[1], time[2], score or '', key or '', unpack(found)}
end
";

/// Lists what is due or waits, in order, with the time. It looks at so many keys at most, and tells
/// where to go on. Keys that have expired meanwhile leave the lists by it; else it writes nothing.
///
/// `KEYS` due, written. `ARGV` what comes before a key in a record's name; how many to find, and how
/// many to look at; the place after which to begin, of which the first part is empty if that is the
/// beginning; `due` or `waiting`.
pub(super) static LIST: LazyLock<Script> = LazyLock::new(|| {
    listing(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local due, written = KEYS[1], KEYS[2]
local after, key, which = ARGV[4], ARGV[5], ARGV[6]
local now_text = string.format('%.0f', now)
local future = redis.call('ZCOUNT', written, '(' .. now_text, '+inf')
local over = redis.call('ZCOUNT', due, '-inf', now_text)
local all = redis.call('ZCARD', due)

-- By their bytes, as the server has them: Lua goes by the locale.
local function is_after(member, other)
    for n = 1, #member do
        local a, b = string.byte(member, n), string.byte(other, n)
        if a ~= b then
            return not b or a > b
        end
    end
    return false
end

-- How many there are up to the place after which to begin.
local function passed()
    if after == '' then
        return 0
    end
    local low = redis.call('ZCOUNT', due, '-inf', '(' .. after)
    local high = low + redis.call('ZCOUNT', due, after, after)
    while low < high do
        local middle = math.floor((low + high) / 2)
        if is_after(redis.call('ZRANGE', due, middle, middle)[1], key) then
            high = middle
        else
            low = middle + 1
        end
    end
    return low
end

local function is_from_the_future(member)
    return future > 0 and tonumber(redis.call('ZSCORE', written, member) or 0) > now
end

-- Looks at those from one rank to another. Answers whether that was all.
local function walk(first, to, is_listed)
    while first < to and not is_full() do
        local many = math.min(to - first, limit - #found / 2, most - seen)
        local members = {}
        for _, member in ipairs(redis.call('ZRANGE', due, first, first + many - 1)) do
            if is_listed(member) then
                members[#members + 1] = member
            end
            last = member
        end
        add(members)
        first, seen = first + many, seen + many
    end
    return first >= to
end

-- Looks at those from the future that are not due yet: few enough to look at all of them.
local function jump()
    local places = {}
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', written, '(' .. now_text, '+inf')) do
        local score = tonumber(redis.call('ZSCORE', due, member) or 0)
        local place = after == '' and 0 or tonumber(after)
        if score > now and (score > place or score == place and is_after(member, key)) then
            places[#places + 1] = {score, member}
        end
    end
    table.sort(places, function(one, other)
        if one[1] == other[1] then
            return is_after(other[2], one[2])
        end
        return one[1] < other[1]
    end)
    for _, place in ipairs(places) do
        if is_full() then
            return false
        end
        add({place[2]})
        last, seen = place[2], seen + 1
    end
    return true
end

local is_all
if which == 'waiting' then
    is_all = walk(math.max(passed(), over), all, function(member)
        return not is_from_the_future(member)
    end)
else
    local first = passed()
    is_all = walk(first, over, function()
        return true
    end)
    if is_all and future > most then
        is_all = walk(math.max(first, over), all, is_from_the_future)
    elseif is_all and future > 0 then
        is_all = jump()
    end
end
if is_all then
    return answer(time, KEYS)
end
return answer(time, KEYS, redis.call('ZSCORE', due, last), last)
",
    )
});

/// Lists what gave up, in the order of the keys, with the time: as [`LIST`] does.
///
/// `KEYS` gave up, written. `ARGV` as for that, but for the last.
pub(super) static GAVE_UP: LazyLock<Script> = LazyLock::new(|| {
    listing(
        r"
local time = redis.call('TIME')
local first = ARGV[4] == '' and '-' or '(' .. ARGV[5]
while not is_full() do
    local many = math.min(limit - #found / 2, most - seen)
    local members = redis.call('ZRANGEBYLEX', KEYS[1], first, '+', 'LIMIT', 0, many)
    if #members == 0 then
        return answer(time, KEYS)
    end
    add(members)
    last, seen = members[#members], seen + #members
    first = '(' .. last
end
return answer(time, KEYS, '0', last)
",
    )
});
