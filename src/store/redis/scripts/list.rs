//! The scripts that list keys.

use std::sync::LazyLock;

use redis::Script;

use super::script;

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

fn listing(code: &str) -> Script {
    script(&[LISTING, code].concat())
}

/// Lists what is due or waits, in order, with the time. It looks at only so many keys, and answers
/// where to go on. It removes keys that have expired meanwhile from the lists; otherwise it writes
/// nothing.
///
/// `KEYS`: due, written. `ARGV`: what comes before the key in a record's name; how many keys to
/// find, and how many to look at; the place after which to begin, as a score, which is empty at the
/// beginning, and a key; `due` or `waiting`.
pub(in crate::store::redis) static LIST: LazyLock<Script> = LazyLock::new(|| {
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
    local same, differs = 0, math.min(#member, #other) + 1
    while differs - same > 1 do
        local middle = math.floor((same + differs) / 2)
        if string.sub(member, 1, middle) == string.sub(other, 1, middle) then
            same = middle
        else
            differs = middle
        end
    end
    return (string.byte(member, differs) or -1) > (string.byte(other, differs) or -1)
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
/// `KEYS`: gave up, written. `ARGV`: as for that, without the last.
pub(in crate::store::redis) static GAVE_UP: LazyLock<Script> = LazyLock::new(|| {
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
