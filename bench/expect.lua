-- wrk counts 304 as good as 200; an answer of another status than the one in the argument stops the run, so that a
-- wrong token cannot look fast.
function init(args)
  wanted = tonumber(args[1])
end

function response(status)
  if status ~= wanted then
    io.stderr:write("expected " .. wanted .. ", got " .. status .. "\n")
    os.exit(1)
  end
end
