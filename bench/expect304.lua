-- wrk counts 304 as good; an answer of another status stops the run, so that a wrong token cannot look fast.
function response(status)
  if status ~= 304 then
    io.stderr:write("expected 304, got " .. status .. "\n")
    os.exit(1)
  end
end
